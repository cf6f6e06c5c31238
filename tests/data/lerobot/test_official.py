"""LeRobot's own package reads what is written here, and what it writes is read here: `make lerobot test-lerobot`."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from cosmos_isaac_wm.data import EpisodeDataset
from cosmos_isaac_wm.train import export_lerobot, import_lerobot
from tests.data.lerobot.test_reading import check_official

PYTHON = Path(os.environ.get("LEROBOT", Path(__file__).parents[3] / ".lerobot")) / "bin/python"
SCRIPT = Path(__file__).with_name("official.py")

pytestmark = [
    pytest.mark.lerobot,
    pytest.mark.skipif(not PYTHON.exists(), reason=f"LeRobot is not there: {PYTHON} is missing; `make lerobot`"),
]


def official(command, folder):
    """Let LeRobot do something."""
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(folder.parent / "cache")}
    done = subprocess.run([PYTHON, SCRIPT, command, folder], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("command", ["write", "write-images"])
def test_what_it_writes_is_read(tmp_path, command):
    official(command, tmp_path / "official")
    argv = [str(tmp_path / "official"), "--out", str(tmp_path / "data"), "--cameras", "[top, wrist]"]
    assert import_lerobot.main(argv) == 0
    check_official(EpisodeDataset(tmp_path / "data"))


@pytest.mark.parametrize("use_videos", ["true", "false"])
def test_it_reads_what_is_written(tmp_path, use_videos, recorded):
    argv = [str(recorded), "--out", str(tmp_path / "out"), "--use_videos", use_videos]
    assert export_lerobot.main(argv) == 0
    found, source = json.loads(official("read", tmp_path / "out")), EpisodeDataset(recorded)
    chosen = [source[i] for split in ("train", "val", "test") for i in source.indices(split)]
    assert (found["episodes"], found["fps"], len(found["rows"])) == (len(chosen), 20, sum(map(len, chosen)))
    actions = np.concatenate([episode.actions for episode in chosen])
    assert np.allclose([row["action"] for row in found["rows"]], actions)
    assert np.allclose(found["stats"]["action"]["mean"], actions.mean(axis=0), atol=1e-6)
    frames = np.concatenate([episode.frames[:-1] for episode in chosen]) / 255
    seen = np.array([row["observation.images.camera"] for row in found["rows"]])
    assert np.abs(seen - frames.mean(axis=(1, 2))).max() < (0.02 if use_videos == "true" else 1e-6)
    assert {row["task"] for row in found["rows"]} == {"Dot-v0"}


def test_what_it_has_edited_is_read(tmp_path, recorded):
    assert export_lerobot.main([str(recorded), "--out", str(tmp_path / "out")]) == 0
    official("delete", tmp_path / "out")
    assert import_lerobot.main([str(tmp_path / "out-fewer"), "--out", str(tmp_path / "data")]) == 0
    assert len(EpisodeDataset(tmp_path / "data")) == len(EpisodeDataset(recorded)) - 1
