"""Is a long dream looked at as a whole, and does an agent in it get goal after goal?"""

import dataclasses

import numpy as np
import pytest
import torch

from cosmos_isaac_wm.policies import endurance
from cosmos_isaac_wm.policies.endurance import play_figures
from cosmos_isaac_wm.train import evaluate
from cosmos_isaac_wm.world_model import WorldModel


@pytest.fixture(scope="module")
def shipped():
    return WorldModel.load("default", "cpu")


def test_the_shipped_dream_keeps_its_objects_and_its_agent_moves_them(shipped, monkeypatch):
    monkeypatch.setattr(endurance, "_NEW_GOAL", 20)
    goals = []
    moved = endurance._with_new_goal
    monkeypatch.setattr(
        endurance, "_with_new_goal", lambda env, rng: goals.append(env.task.goals.clone()) or moved(env, rng)
    )
    figures = play_figures(shipped, 60, 3, shipped.path / "agent")
    assert figures["play_cube_detection_rate"] == figures["play_pusher_detection_rate"] == 1
    assert figures["play_cube_on_table"] == figures["play_pusher_on_table"] == 1
    assert figures["play_pusher_moved"] > 5
    assert len(goals) >= 2
    assert not torch.equal(goals[0], goals[1])
    assert figures == play_figures(shipped, 60, 3, shipped.path / "agent")


def test_a_dream_that_fades_is_found_out(shipped, monkeypatch):
    grey = lambda model, latents: np.full((len(latents), 128, 128, 3), 90, np.uint8)  # noqa: E731
    monkeypatch.setattr(endurance, "decode_frames", grey)
    figures = play_figures(shipped, 5)
    assert figures["play_cube_detection_rate"] == figures["play_cube_detection_rate_random"] == 0
    assert "play_cube_detection_rate_agent" not in figures


def test_evaluate_plays_where_it_is_asked_to(shipped, capsys):
    asked = evaluate.Evaluate(episodes=2, horizon=4, play=4, device="cpu")
    assert asked.run()["play_cube_detection_rate"] == 1
    assert "play_pusher_moved" in capsys.readouterr().out
    assert "play_cube_detection_rate" not in dataclasses.replace(asked, play=0).run()
