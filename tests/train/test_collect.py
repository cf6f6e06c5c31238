import dataclasses
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from cosmos_isaac_wm.data import EpisodeDataset
from cosmos_isaac_wm.envs import DreamEnv
from cosmos_isaac_wm.evaluation.baselines import opposed, predictability_floor
from cosmos_isaac_wm.policies.agent import Agent, new_policy
from cosmos_isaac_wm.sims.mujoco import MujocoTable
from cosmos_isaac_wm.train import collect

ARGUMENTS = ["--episodes", "3", "--steps", "12", "--size", "64", "--workers", "1", "--seed", "5"]


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    """Three real episodes and their figures, collected by the command."""
    out = tmp_path_factory.mktemp("collected")
    assert collect.main([*ARGUMENTS, "--out", str(out / "table"), "--json", str(out / "numbers.json")]) == 0
    return EpisodeDataset(out / "table"), json.loads((out / "numbers.json").read_text())


@pytest.mark.opengl
def test_it_collects_both_kinds_with_everything_the_simulator_knows(collected):
    dataset, _ = collected
    assert dataset.kinds == ["push", "push", "slide"]
    push, slide = dataset[0], dataset[2]
    assert push.frames.shape == (13, 64, 64, 3)
    assert push.actions.shape == (12, 2)
    assert push.positions.keys() == {"cube", "pusher"}
    assert slide.positions.keys() == {"cube"}
    assert push.infos["cube_pose"].shape == (13, 7)
    assert len(push.infos["state"]) == 13
    assert dataset.metadata["simulator"] == "mujoco"
    assert dataset.metadata["renderer"].startswith("mujoco.Renderer/")
    assert dataset.scene.image_size == (64, 64)
    assert sum(len(dataset.indices("all", kind)) for kind in ("push", "slide")) == 3


@pytest.mark.opengl
def test_the_recorded_actions_replay_to_the_recorded_poses_and_pictures(collected):
    for episode in collected[0].episodes([0, 2]):
        simulator = MujocoTable(episode.kind, (64, 64))
        simulator.set_state(episode.infos["state"][3])
        for step in range(3, 12):
            simulator.step(episode.actions[step])
            assert np.array_equal(simulator.cube_pose(), episode.infos["cube_pose"][step + 1])
            assert np.array_equal(simulator.render(), episode.frames[step + 1])


@pytest.mark.opengl
def test_it_reports_and_draws_what_was_visited(collected):
    dataset, numbers = collected
    assert (numbers["episodes"], numbers["push_episodes"], numbers["slide_episodes"]) == (3, 2, 1)
    assert 0 <= numbers["push_contact_share"] <= 1
    assert numbers["slide_path_m"] > 0.1
    assert (dataset.path / "coverage.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.opengl
def test_the_same_seed_collects_the_same_episodes(collected):
    job = collect.plan(3, "both", 5, 12)[0]
    (again,) = collect.record_episodes([job], 64)
    assert np.array_equal(again.frames, collected[0][0].frames)
    assert np.array_equal(again.actions, collected[0][0].actions)


@pytest.mark.opengl
def test_an_episode_can_tell_what_its_simulator_did_when_it_was_restarted():
    """As near to what the simulator says when it is asked as two draws of the same noise are."""
    push, _, slide = (dataclasses.replace(job, restarts=4) for job in collect.plan(3, "both", 5, 24))
    for job in (push, slide):
        (episode,) = collect.record_episodes([job], 64)
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
    monkeypatch.setattr(collect, "_tables", lambda *_: tables)
    jobs = collect.plan(2, "push", 5, 4)
    first, second = collect.record_episodes(jobs, 4, sim="isaac-lab", count=3)
    assert tables.seeds == [job.seed for job in jobs]
    assert first.frames[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert second.frames[:, 0, 0, 0].tolist() == [10, 11, 12, 13, 14]
    assert second.positions["cube"].tolist() == [[1, step] for step in range(5)]
    assert first.seed != second.seed
    assert np.array_equal(np.stack(tables.actions)[:, 0], first.actions)
    assert np.array_equal(np.stack(tables.actions)[:, 1], second.actions)
    assert not np.stack(tables.actions)[:, 2].any()  # the table that nobody asked for rests


def test_without_isaac_lab_its_simulator_is_refused_in_one_line(tmp_path, capsys):
    if importlib.util.find_spec("isaaclab"):
        pytest.skip("Isaac Lab is here")
    assert collect.main(["--sim", "isaac-lab", "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert "docs/isaac.md says how to make it" in said
    assert "Traceback" not in said


@pytest.mark.opengl
def test_a_finished_dataset_is_refused_in_one_line(collected, capsys):
    assert collect.main([*ARGUMENTS, "--out", str(collected[0].path)]) == 1
    assert "already holds a finished dataset; choose another folder" in capsys.readouterr().err


def test_the_script_runs_from_a_clone():
    script = Path(__file__).parents[2] / "train" / "collect.py"
    result = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, check=True)
    assert "--episodes" in result.stdout


@pytest.fixture
def agent(model, tmp_path):
    """A toy agent that always goes right."""
    env = DreamEnv(model)
    policy = new_policy("ppo", "MultiInputPolicy", {"net_arch": [4]}, env.observation_space, env.action_space)
    with torch.no_grad():
        policy.action_net.weight.zero_()
        policy.action_net.bias.copy_(torch.tensor([0.6, 0.0]))
    return Agent(policy, "ppo", "MultiInputPolicy", {"net_arch": [4]}, {"obs_type": "pose"}).save(tmp_path / "agent")


@pytest.mark.opengl
def test_an_agent_collects_what_it_does_beside_what_the_scripted_pusher_does(agent, bundle, tmp_path):
    argv = ["--episodes", "4", "--kind", "push", "--steps", "10", "--size", "32", "--workers", "1", "--seed", "5"]
    scripted = [*argv, "--out", str(tmp_path / "scripted")]
    assert collect.main(scripted) == 0
    assert (
        collect.main(
            [
                *argv,
                "--agent",
                str(agent),
                "--world_model",
                str(bundle),
                "--explore",
                "0.5",
                "--out",
                str(tmp_path / "mix"),
            ]
        )
        == 0
    )
    mixed, other = EpisodeDataset(tmp_path / "mix"), EpisodeDataset(tmp_path / "scripted")
    assert mixed.metadata["agent"] == Agent.load(agent).fingerprint()
    same = [np.array_equal(mixed[i].actions, other[i].actions) for i in range(4)]
    assert 0 < sum(same) < 4
    for index, scripted_one in enumerate(same):
        if not scripted_one:
            assert mixed[index].actions[:, 0].mean() == pytest.approx(0.6, abs=0.25)
            assert mixed[index].actions[:, 0].std() > 0.05  # noise


def test_an_agent_gets_another_goal_when_it_has_reached_one(agent, model):
    frame = np.full((32, 32, 3), 128, np.uint8)
    driver = collect.AgentDriver(model, Agent.load(agent), frame, seed=0)
    driver._task.goals = driver._task._sight.positions[:, 0].clone()  # it is there
    first = driver._task.goals.clone()
    driver.see(frame, np.zeros(2, np.float32))
    assert not torch.equal(driver._task.goals, first)
    unmoved = driver._task.goals.clone()
    driver.see(frame, np.zeros(2, np.float32))
    assert torch.equal(driver._task.goals, unmoved)


def test_stacked_observations_cannot_collect(agent, model):
    stacked = Agent.load(agent)
    stacked.frame_stack = 3
    with pytest.raises(ValueError, match="frame_stack 1"):
        collect.AgentDriver(model, stacked, np.zeros((32, 32, 3), np.uint8), 0)
