"""Heads learn from dreams only what helps them on others; what is said to be true of a dream is what was true."""

import copy

import pytest
import torch

from cosmos_isaac_wm.dynamics import ResNetRollout, ResNetRolloutConfig
from cosmos_isaac_wm.perception.heads import HeadsConfig
from cosmos_isaac_wm.training import heads_of_dreams
from cosmos_isaac_wm.training.heads import HeadsFitConfig, _Steps, new_heads
from cosmos_isaac_wm.training.heads_of_dreams import fit_heads_on_dreams
from cosmos_isaac_wm.training.validation import validate
from tests.dots import encoded_dots


@pytest.fixture
def world():
    """Untrained networks around encoded dots: dynamics, perception, training and validation episodes."""
    perception, train = encoded_dots(12)
    _, val = encoded_dots(5, seed=3)
    torch.manual_seed(0)
    perception.heads = new_heads(train, 2, HeadsConfig(embedding=16, width=8, hidden=16)).requires_grad_(False)
    return ResNetRollout(ResNetRolloutConfig(action_dim=2, width=16, blocks=1)), perception, train, val


def test_a_dream_keeps_what_was_true_of_its_episode(world, monkeypatch):
    dynamics, perception, train, _ = world
    monkeypatch.setattr(heads_of_dreams, "_HORIZON", 3)
    dynamics.eval()
    with torch.no_grad():
        dreams = heads_of_dreams._dreams(dynamics, perception, train)
        assert len(dreams) > len(train)
        for row in range(len(dreams)):
            source, length = int(dreams.sources[row]), int(dreams.lengths[row])
            begin = next(
                first
                for first in range(int(train.lengths[source]))
                if torch.equal(train.observed[source, first : first + 4], dreams.observed[row, :4])
            )
            assert torch.equal(dreams.latents[row, :4], train.latents[source, begin : begin + 4])
            for name, count in (
                ("observed", length),
                ("actions", length - 1),
                ("rewards", length - 1),
                ("ends", length - 1),
            ):
                assert torch.equal(
                    getattr(dreams, name)[row, :count], getattr(train, name)[source, begin : begin + count]
                )
            actions = perception.scale_actions(train.actions[source, begin + 3 : begin + 4])
            dreamed = dynamics(train.latents[source, begin : begin + 4].float()[None], actions).latent
            assert torch.allclose(dreams.latents[row, 4].float(), dreamed[0], atol=1e-2)
            assert not torch.equal(dreams.latents[row, 4], train.latents[source, begin + 4])


def test_what_is_learned_of_a_dream_begins_with_its_first_step(world):
    dynamics, perception, train, _ = world
    with torch.no_grad():
        dreams = heads_of_dreams._dreams(dynamics.eval(), perception, train.rested(3))
    shown = _Steps(dreams, perception.heads).table
    assert shown[:, 1].min() == dynamics.context_length


def test_what_helps_is_kept(world, capsys):
    dynamics, perception, train, val = world
    before = validate(dynamics, perception, val)
    after = fit_heads_on_dreams(dynamics, perception, train, val, HeadsFitConfig(updates=150), 0, before)
    assert after["error"] < before["error"]
    assert after == validate(dynamics, perception, val)
    assert "others to" in capsys.readouterr().out
    assert not any(weight.requires_grad for weight in perception.heads.parameters())


def test_what_does_not_help_is_undone(world, capsys):
    dynamics, perception, train, val = world
    kept = copy.deepcopy(perception.heads.state_dict())
    before = {"error": 0.0}
    assert fit_heads_on_dreams(dynamics, perception, train, val, HeadsFitConfig(updates=3), 0, before) is before
    assert all(torch.equal(kept[name], value) for name, value in perception.heads.state_dict().items())
    assert "left as they were" in capsys.readouterr().out
