import numpy as np
import pytest
import torch

from cosmos_isaac_wm.rollout import DreamEngine
from cosmos_isaac_wm.train.speed import peers


def test_a_dream_in_another_library_takes_the_same_step(world_model):
    dream = peers.Dream(world_model)
    context, actions = dream.start(3), torch.full((3, 2), 0.5)
    expected = DreamEngine(world_model, 3)
    expected.reset(context)
    expected.step(actions)
    torch.testing.assert_close(dream.advance(context, actions), expected.context)
    assert dream.pose(context).shape == (3, 4)
    assert (dream.reward(dream.pose(context)) < 0).all()


def test_libraries_that_are_not_installed_are_named(world_model, monkeypatch, capsys):
    monkeypatch.setattr(peers, "find_spec", lambda module: None)
    assert peers.installed(world_model, 2, np.zeros((2, 2), np.float32)) == {}
    assert "pip install torchrl" in capsys.readouterr().out


@pytest.mark.parametrize("module", peers.PEERS)
def test_an_installed_library_steps(world_model, module):
    pytest.importorskip(module)
    step = getattr(peers, module)(peers.Dream(world_model), 2, np.zeros((2, 2), np.float32))
    for _ in range(3):
        step()
