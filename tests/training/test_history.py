"""Is a dynamics shown the same earlier actions wherever it dreams? In a world where actions show a step late."""

import dataclasses

import numpy as np
import pytest
import torch

from cosmos_isaac_wm.dynamics import ResNetRollout, ResNetRolloutConfig
from cosmos_isaac_wm.dynamics.network import with_history
from cosmos_isaac_wm.evaluation.open_loop import dream
from cosmos_isaac_wm.rollout import DreamEngine
from cosmos_isaac_wm.training import dreams as of_training
from cosmos_isaac_wm.training.dreams import Dreams
from cosmos_isaac_wm.training.heads_of_dreams import _dreamed
from cosmos_isaac_wm.training.processes import Processes
from cosmos_isaac_wm.training.recipe import FitConfig, Stage
from cosmos_isaac_wm.training.validation import validate
from tests.dots import dot_twin, encoded_dots, recorded_dots
from tests.training.test_dynamics import SPEED, Oracle, perception, walk  # noqa: F401 (a fixture)


class Late(Oracle):
    """Knows that what shows is the action before."""

    history = 1

    def forward(self, context, action):
        return super().forward(context, action[:, :2])


def late(episodes, length=20):
    """Episodes in which every action shows a step late."""
    usual = walk(episodes, length)
    moved = SPEED * torch.cat([torch.zeros(episodes, 1, 2), usual.actions[:, :-1]], dim=1).cumsum(dim=1)
    positions = torch.cat([usual.positions[:, :1], usual.positions[:, :1] + moved.unsqueeze(2)], dim=1)
    latents = (10 * positions[:, :, 0, :, None, None]).expand(-1, -1, -1, 4, 4)
    return dataclasses.replace(usual, positions=positions, latents=latents.half())


def test_actions_come_with_those_before_them_oldest_first():
    actions = torch.arange(12.0).view(1, 6, 2)
    assert with_history(actions, 2)[0, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert with_history(actions, 2)[0, -1].tolist() == [6, 7, 8, 9, 10, 11]
    assert torch.equal(with_history(actions, 0), actions)


@pytest.mark.parametrize("history", [-1, 4])
def test_a_history_longer_than_the_context_is_refused(history):
    with pytest.raises(ValueError, match="history"):
        ResNetRollout(ResNetRolloutConfig(context_length=4, history=history, action_dim=2))


@pytest.mark.parametrize("rest", [0, 3])
def test_validation_shows_them(perception, rest):  # noqa: F811
    episodes = late(4).rested(rest)
    assert validate(Late(), perception, episodes)["error"] < 0.5
    assert validate(Oracle(), perception, episodes)["error"] > 2


def test_training_shows_them_and_hides_some(monkeypatch):
    episodes, config = late(6).rested(3), FitConfig(batch_size=32, stages=(Stage(rollout=3, persistence=0.5),))
    for hidden, told in ((0.0, True), (1.0, False)):
        monkeypatch.setattr(of_training, "_UNTOLD", hidden)
        batch = Dreams(episodes, config, 4, 1, 0, Processes("cpu"))
        batch.prepare(config.stages[0], 0)
        truth = batch.targets(3)
        moved = truth.latents.diff(dim=1)[..., 0, 0]
        expected = 10 * SPEED * truth.actions[:, :3] * truth.known[:, :3, None]
        assert truth.known[:, 1:].all()
        started = batch.place[:, 1] > 3
        assert started.any()
        assert torch.equal(truth.known[:, 0], started & told)
        assert torch.allclose(moved[:, 1:], expected[:, 1:], atol=2e-3)
        assert torch.allclose(moved[truth.known[:, 0]], expected[truth.known[:, 0]], atol=2e-3)


def test_an_engine_keeps_them():
    twin = dot_twin()
    _, episodes = recorded_dots()
    episode = max(episodes, key=len)
    frames = torch.stack([twin.encode(part)[0] for part in torch.from_numpy(episode.frames).split(1)])
    scaled = twin.perception.scale_actions(torch.from_numpy(episode.actions))
    context, by_hand = frames[None, :4], []
    for step in range(3, len(episode)):
        latent = twin.dynamics(context, scaled[None, step - 1 : step + 1].flatten(1)).latent
        context = torch.cat([context[:, 1:], latent.unsqueeze(1)], dim=1)
        by_hand.append(latent)
    assert torch.allclose(dream(twin, [episode])[0], torch.cat(by_hand), atol=1e-4)
    unknown = DreamEngine(twin, 1).open_loop(frames[None, :4], torch.from_numpy(episode.actions[None, 3:]))
    assert not torch.allclose(unknown[0, 0], by_hand[0][0], atol=1e-4)


def test_a_restart_forgets_them():
    twin = dot_twin()
    starts = twin.contexts.latents.float()
    engine = DreamEngine(twin, 2, starts=starts)
    engine.reset(starts[:2])
    engine.step(torch.ones(2, 2))
    assert engine.past.abs().sum(dim=(1, 2)).gt(0).all()
    engine.restart(torch.tensor([True, False]), torch.tensor([0, 0]))
    assert engine.past.abs().sum(dim=(1, 2)).gt(0).tolist() == [False, True]


def test_heads_learn_from_dreams_that_know_them():
    perception, episodes = encoded_dots()  # noqa: F811
    dynamics = dot_twin().dynamics
    long = int(np.argmax(episodes.lengths))
    with torch.no_grad():
        dreamed = _dreamed(dynamics, perception, episodes, [(long, 1)], 4)
        actions = perception.scale_actions(episodes.actions[long, 3:5]).flatten()
        expected = dynamics(episodes.latents[long : long + 1, 1:5].float(), actions[None]).latent
    assert torch.allclose(dreamed.latents[0, 4].float(), expected[0], atol=1e-2)


def test_an_update_that_is_recorded_finds_what_it_is_told_where_it_was():
    config = FitConfig(batch_size=8, stages=(Stage(),))
    batch = Dreams(late(6), config, 4, 1, 0, Processes("cpu"))
    before = batch._told
    batch.prepare(config.stages[0], 0)
    assert batch._told is before
