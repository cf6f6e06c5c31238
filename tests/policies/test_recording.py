import dataclasses

import numpy as np
import pytest

from cosmos_isaac_wm.data.collection import plan
from cosmos_isaac_wm.evaluation.baselines import opposed, predictability_floor
from cosmos_isaac_wm.policies import recording
from cosmos_isaac_wm.policies.recording import check_drawing, record_episodes
from cosmos_isaac_wm.sims.mujoco import MujocoTable, OpenGLError


@pytest.mark.opengl
def test_an_episode_can_tell_what_its_simulator_did_when_it_was_restarted():
    """As near to what the simulator says when it is asked as two draws of the same noise are."""
    push, _, slide = (dataclasses.replace(job, restarts=4) for job in plan(3, "both", 5, 24))
    for job in (push, slide):
        (episode,) = record_episodes([job], 64)
        asked = MujocoTable(job.kind, (64, 64))
        floors = [
            predictability_floor(simulator, asked.scene, episode, 3, 20, np.random.default_rng(0))
            for simulator in (None, asked)
        ]
        assert not np.array_equal(*floors, equal_nan=True)
        assert floors[0].shape == floors[1].shape == (4, 20, 2)
        assert 0.2 < np.nanmean(floors[0][:, :8]) / np.nanmean(floors[1][:, :8]) < 5
        assert predictability_floor(None, asked.scene, episode, 7, 16, np.random.default_rng(0)) is None
        if job.kind == "push":
            ends = [opposed(simulator, asked.scene, episode, 3, 16) for simulator in (None, asked)]
            assert np.allclose(*ends, atol=1e-6)
            assert np.linalg.norm(ends[0][1] - episode.positions["pusher"][19]) > 0.01
        told = {name for name in episode.infos if name.endswith(("_restarted", "_opposed"))}
        names = episode.positions if job.kind == "push" else ()
        assert told == {f"{name}_restarted" for name in episode.positions} | {f"{name}_opposed" for name in names}


class Counting:
    """Three tables, whose pictures and positions say which table and which step they are of."""

    def reset(self, seeds):
        self.seeds, self.step_, self.actions = list(seeds), 0, []

    def step(self, actions):
        self.step_ += 1
        self.actions.append(actions)

    def render(self):
        return np.stack([np.full((4, 4, 3), 10 * table + self.step_, np.uint8) for table in range(3)])

    def observe(self):
        return [
            {
                "cube_position": np.array([table, self.step_]),
                "pusher_position": np.array([0.1, 0.1]),
                "state": np.zeros(3),
            }
            for table in range(3)
        ]


def test_episodes_that_are_recorded_together_keep_apart(monkeypatch):
    tables = Counting()
    monkeypatch.setattr(recording, "_tables", lambda *_: tables)
    jobs = plan(2, "push", 5, 4)
    first, second = record_episodes(jobs, 4, sim="isaac-lab", count=3)
    assert tables.seeds == [job.seed for job in jobs]
    assert first.frames[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert second.frames[:, 0, 0, 0].tolist() == [10, 11, 12, 13, 14]
    assert second.positions["cube"].tolist() == [[1, step] for step in range(5)]
    assert first.seed != second.seed
    assert np.array_equal(np.stack(tables.actions)[:, 0], first.actions)
    assert np.array_equal(np.stack(tables.actions)[:, 1], second.actions)
    assert not np.stack(tables.actions)[:, 2].any()  # the table that nobody asked for rests


@pytest.mark.opengl
def test_a_machine_that_would_draw_otherwise_is_found_out():
    about = MujocoTable("push", (16, 16)).metadata()
    check_drawing(16, about)
    with pytest.raises(ValueError, match=r"simulator_version .+ instead of 1\.0"):
        check_drawing(16, about | {"simulator_version": "1.0"})


def test_a_machine_without_opengl_is_found_out(monkeypatch):
    def render(self):
        raise OpenGLError("MuJoCo cannot draw pictures here")

    monkeypatch.setattr(MujocoTable, "render", render)
    with pytest.raises(OpenGLError, match="cannot draw"):
        check_drawing(16, {})
