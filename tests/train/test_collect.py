import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from cosmos_isaac_wm.data import EpisodeDataset
from cosmos_isaac_wm.data.collection import plan
from cosmos_isaac_wm.envs import DreamEnv
from cosmos_isaac_wm.executors import cluster
from cosmos_isaac_wm.policies.agent import Agent, new_policy
from cosmos_isaac_wm.policies.recording import record_episodes
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
    job = plan(3, "both", 5, 12)[0]
    (again,) = record_episodes([job], 64)
    assert np.array_equal(again.frames, collected[0][0].frames)
    assert np.array_equal(again.actions, collected[0][0].actions)


def test_without_isaac_lab_its_simulator_is_refused_in_one_line(tmp_path, capsys):
    if importlib.util.find_spec("isaaclab"):
        pytest.skip("Isaac Lab is here")
    assert collect.main(["--sim", "isaac-lab", "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert "docs/isaac.md says how to make it" in said
    assert "Traceback" not in said


@pytest.mark.opengl
def test_a_finished_dataset_is_as_good_as_a_new_one(collected, capsys):
    dataset = collected[0]
    (dataset.path / "coverage.png").unlink()
    (dataset.path / "unfinished").mkdir()  # as a kill right after the end leaves it
    assert collect.main([*ARGUMENTS, "--out", str(dataset.path)]) == 0
    assert f"going on from the finished dataset {dataset.path}" in capsys.readouterr().err
    assert (dataset.path / "coverage.png").exists()
    assert not (dataset.path / "unfinished").exists()


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


@pytest.mark.opengl
def test_a_ray_cluster_collects_the_same_to_the_bit(agent, bundle, tmp_path, ray_cluster):
    """Episodes of an agent's, whose folder the cluster's workers need not see."""
    argv = ["--episodes", "4", "--steps", "8", "--size", "32", "--seed", "5", "--agent", str(agent)]
    argv += ["--world_model", str(bundle)]
    assert collect.main([*argv, "--workers", "1", "--out", str(tmp_path / "here")]) == 0
    assert collect.main([*argv, "--ray", ray_cluster.address, "--out", str(tmp_path / "there")]) == 0
    here, there = EpisodeDataset(tmp_path / "here"), EpisodeDataset(tmp_path / "there")
    assert here.fingerprint() == there.fingerprint()
    assert here.metadata == there.metadata
    for index in range(4):
        assert np.array_equal(here[index].frames, there[index].frames)
        assert np.array_equal(here[index].actions, there[index].actions)
        assert here[index].infos.keys() == there[index].infos.keys()
        assert all(np.array_equal(values, there[index].infos[name]) for name, values in here[index].infos.items())


def test_a_cluster_that_does_not_answer_is_an_error_in_one_line(tmp_path, capsys, monkeypatch):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'cosmos-isaac-wm[ray]'")
    monkeypatch.setattr(cluster, "_ANSWERS_S", 3.0)
    assert collect.main(["--ray", "127.0.0.1:9", "--out", str(tmp_path / "out")]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "no Ray cluster answers at 127.0.0.1:9 within 3 s" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.opengl
def test_a_node_without_opengl_is_named_in_one_line(tmp_path, capsys, ray_cluster):
    blind = ray_cluster.add_node(
        num_cpus=1, node_ip_address="127.0.0.1", node_name="blind", env_vars={"MUJOCO_GL": "off"}
    )
    try:
        assert collect.main(["--ray", ray_cluster.address, "--size", "32", "--out", str(tmp_path / "out")]) == 1
    finally:
        ray_cluster.remove_node(blind)
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert re.search(r"on node blind \(.+\): MuJoCo cannot draw pictures here", line)
    assert not (tmp_path / "out").exists()
