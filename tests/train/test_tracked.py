"""Commands with `--track`: to a tracker of the same interface, and to trackio itself where that is installed."""

import json
import os
import subprocess
import sys

import pytest

from cosmos_isaac_wm.train import evaluate, fit_dynamics, fit_tokenizer, info, train_agent
from tests.trackers import put_in


@pytest.fixture
def trackers(monkeypatch):
    return put_in(monkeypatch)


def test_fits_hand_on_losses_validations_and_results(trackers, dataset, tmp_path, tiny_fit, tiny_perception):
    trackio = trackers("trackio")
    eyes, bundle = str(tmp_path / "eyes"), str(tmp_path / "bundle")
    assert fit_tokenizer.main([f"--data={dataset.path}", f"--out={eyes}", *tiny_perception, "--track"]) == 0
    assert trackio.steps_of("tokenizer/loss") == [30]
    assert trackio.steps_of("result/tokenizer_loss") == [None]
    shape = ["--dynamics.width=16", "--dynamics.blocks=1"]
    arguments = [f"--data={dataset.path}", f"--perception={eyes}", f"--out={bundle}", *shape, *tiny_fit]
    assert fit_dynamics.main([*arguments, "--track", "trackio"]) == 0
    assert trackio.steps_of("fit/error") == [6, 12]
    assert trackio.steps_of("result/push_cube_rmse_px512") == [None]
    assert trackio.runs[1]["config"]["dynamics"]["width"] == 16
    assert trackio.finished == 2


def test_the_training_of_an_agent_hands_on_what_its_logger_has(trackers, folder, tmp_path):
    trackio = trackers("trackio")
    small = ["--timesteps=64", "--n_envs=2", "--eval_every=32", "--eval_episodes=2", "--device=cpu"]
    rollout = ["--hyperparameters={n_steps: 16, batch_size: 16, n_epochs: 1}"]
    arguments = [f"--world-model={folder}", f"--out={tmp_path / 'agent'}", *small, *rollout]
    assert train_agent.main([*arguments, "--track"]) == 0
    assert trackio.steps_of("train/loss")
    assert trackio.steps_of("eval/mean_reward")
    assert max(trackio.steps_of("train/loss")) == 64
    assert trackio.steps_of("result/steps") == [None]


def test_an_evaluation_hands_on_its_figures(trackers, fitted, tmp_path):
    trackio = trackers("trackio")
    target = tmp_path / "figures.json"
    assert evaluate.main(["--world-model", str(fitted), "--track", "--device=cpu", "--json", str(target)]) == 0
    (figures,) = [figures for _, figures in trackio.rows]
    written = json.loads(target.read_text())
    assert figures["result/push_cube_rmse_px512"] == written["push_cube_rmse_px512"]


def test_a_command_is_not_begun_without_the_tracker_that_it_was_to_have(trackers, fitted, capsys):
    assert evaluate.main(["--world-model", str(fitted), "--track"]) == 1
    assert "--track hands figures on, and neither trackio nor Weights & Biases is installed" in capsys.readouterr().err


def test_trackio_itself_keeps_them_on_this_machine(fitted, tmp_path):
    """In a process of its own: where trackio writes is read from the environment when it is imported."""
    pytest.importorskip("trackio", reason="trackio is not installed: pip install trackio")
    program = """
from cosmos_isaac_wm.train import evaluate
from trackio.sqlite_storage import SQLiteStorage
import sys
assert evaluate.main(["--world-model", sys.argv[1], "--track", "trackio", "--device=cpu"]) == 0
(name,) = SQLiteStorage.get_runs("cosmos-isaac-wm")
print("logged", SQLiteStorage.get_logs("cosmos-isaac-wm", name)[0]["result/push_cube_rmse_px512"])
"""
    environment = {**os.environ, "TRACKIO_DIR": str(tmp_path / "trackio"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", program, str(fitted)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.rpartition("logged ")[2]) > 0


def test_only_long_commands_track(capsys):
    with pytest.raises(SystemExit):
        info.main(["--track"])
    assert "track" in capsys.readouterr().err
