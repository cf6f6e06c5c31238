import json
import re
import shutil
from pathlib import Path

import pytest

from cosmos_isaac_wm.data import write_dataset
from cosmos_isaac_wm.envs import DreamEnv
from cosmos_isaac_wm.policies.agent import Agent, new_policy
from cosmos_isaac_wm.sims.mujoco import OpenGLError
from cosmos_isaac_wm.train import demo
from cosmos_isaac_wm.train.demo import main


@pytest.fixture
def shipped(bundle, dataset, tmp_path) -> Path:
    """The toy bundle with three held-out episodes in it."""
    folder = tmp_path / "bundle"
    shutil.copytree(bundle, folder)
    write_dataset(folder / "episodes", dataset.episodes([7, 8, 9]), dataset.scene, ["test"] * 3)
    return folder


def test_one_command_leaves_the_whole_report(shipped, tmp_path, capsys):
    out, numbers = tmp_path / "out", tmp_path / "numbers.json"
    assert main(["--world-model", str(shipped), "--out", str(out), "--json", str(numbers)]) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "cube_positions.csv",
        "dream_vs_real.mp4",
        "error_vs_horizon.png",
        "metrics.json",
        "report.html",
        "tracking_metrics.txt",
        "trajectory.png",
    ]
    for link in re.findall(r'(?:src|href)="([^"]+)"', (out / "report.html").read_text(encoding="utf-8")):
        assert (out / link).is_file()
    assert len((out / "cube_positions.csv").read_text().splitlines()) == 1 + 3 * 13
    assert json.loads(numbers.read_text()) == json.loads((out / "metrics.json").read_text())
    printed = capsys.readouterr().out
    assert "cube RMSE" in printed
    assert str(out / "report.html") in printed


def test_fewer_episodes_can_be_asked_for(shipped, tmp_path):
    out = tmp_path / "out"
    assert main(["--world-model", str(shipped), "--out", str(out), "--episodes", "2"]) == 0
    assert json.loads((out / "metrics.json").read_text())["push_episodes"] == 2


def test_an_unknown_bundle_is_one_clear_line(tmp_path, capsys):
    assert main(["--world-model", "defualt", "--out", str(tmp_path / "out")]) == 1
    assert "no world model bundle 'defualt'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.fixture
def with_agent(shipped, model) -> Path:
    """The same with an untrained agent in it."""
    env = DreamEnv(model)
    policy = new_policy("ppo", "MultiInputPolicy", {"extractor": "pose"}, env.observation_space, env.action_space)
    trained = {"steps": 1234, "env": "CosmosDream-v0"}
    Agent(policy, "ppo", "MultiInputPolicy", {"extractor": "pose"}, {"obs_type": "pose"}, trained=trained).save(
        shipped / "agent"
    )
    return shipped


@pytest.mark.opengl
def test_a_shipped_agent_is_played_in_both_worlds(with_agent, tmp_path):
    out, numbers = tmp_path / "out", tmp_path / "numbers.json"
    argv = ["--world-model", str(with_agent), "--out", str(out), "--agent_episodes", "2", "--json", str(numbers)]
    assert main(argv) == 0
    found = json.loads(numbers.read_text())
    assert {"agent_dream_success", "agent_real_success"} <= found.keys()
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "trained for 1,234 steps in the dream" in page
    assert (out / "agent.mp4").stat().st_size > 1000


def test_without_opengl_the_agent_is_left_out_with_a_word(with_agent, tmp_path, capsys, monkeypatch):
    def no_opengl(*_):
        raise OpenGLError("no off-screen OpenGL")

    monkeypatch.setattr(demo, "draw_starts", no_opengl)
    out = tmp_path / "out"
    assert main(["--world-model", str(with_agent), "--out", str(out)]) == 0
    assert "the agent was not played in the real simulator: no off-screen OpenGL" in capsys.readouterr().err
    assert "agent.mp4" not in (out / "report.html").read_text(encoding="utf-8")
