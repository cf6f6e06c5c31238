import json

import pytest

from cosmos_isaac_wm.train.record import main


@pytest.fixture
def command(bundle, dataset, tmp_path) -> list[str]:
    return ["--world-model", str(bundle), "--data", str(dataset.path), "--out", str(tmp_path / "out")]


def test_an_episode_is_replayed_in_the_environment_and_logged(command, tmp_path):
    assert main([*command, "--episode", "4", "--json", str(tmp_path / "numbers.json")]) == 0
    rows = (tmp_path / "out" / "cube_positions.csv").read_text().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == ["4"] * 13
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert numbers == json.loads((tmp_path / "out" / "metrics.json").read_text())


def test_a_finished_recording_is_not_redone_and_an_unfinished_one_is(command, tmp_path, capsys):
    out = tmp_path / "out"
    assert main([*command, "--episode", "4"]) == 0
    video = out / "dream_vs_real.mp4"
    video.write_bytes(b"untouched")
    assert main([*command, "--episode", "4"]) == 0
    assert video.read_bytes() == b"untouched"
    assert "going on from the finished recording" in capsys.readouterr().err
    (out / "recording.json").unlink()  # as after a crash
    assert main([*command, "--episode", "4"]) == 0
    assert video.read_bytes() != b"untouched"
    assert len((out / "cube_positions.csv").read_text().splitlines()) == 14


def test_a_recording_of_something_else_is_not_overwritten(command, capsys):
    assert main([*command, "--episode", "4"]) == 0
    assert main([*command, "--episode", "5"]) == 1
    assert "choose another --out" in capsys.readouterr().err


def test_an_episode_that_is_not_there_is_an_error(command, capsys):
    assert main([*command, "--episode", "10"]) == 1
    assert "has episodes 0 to 9, not 10" in capsys.readouterr().err
