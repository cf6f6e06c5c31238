import json
import re
import shutil
from pathlib import Path

import pytest

from cosmos_isaac_wm.data import write_dataset
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
