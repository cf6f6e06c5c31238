import json
import sys

import pytest

from cosmos_isaac_wm.train import record
from cosmos_isaac_wm.train.view import main
from tests.rrd import curve, entities, frames_of, needs_rerun


@needs_rerun
def test_a_dataset_is_written_for_the_viewer(dataset, tmp_path):
    out, target = tmp_path / "x.rrd", tmp_path / "numbers.json"
    assert main([str(dataset.path), "--out", str(out), "--episodes", "[4, 9]", "--json", str(target)]) == 0
    found = entities(out)
    assert {name.split("/")[0] for name in found if name.startswith("episode")} == {"episode_4", "episode_9"}
    assert frames_of(out, "episode_4/real") == list(range(17))
    assert curve(out, "episode_9/action/0") == pytest.approx(dict(enumerate(dataset[9].actions[:, 0])))
    assert json.loads(target.read_text())["pictures"] == 34


@needs_rerun
def test_a_bundles_dreams_stand_beside_its_held_out_episodes(fitted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([str(fitted), "--device=cpu"]) == 0
    found = entities(tmp_path / "view.rrd")
    assert {"real", "dream", "action", "position"} <= {name.split("/")[1] for name in found if "/" in name}
    assert frames_of(tmp_path / "view.rrd", "episode_0/dream")[0] == 4


@needs_rerun
def test_the_bound_is_shown_above_the_error(tmp_path):
    assert main(["default", "--episodes", "0", "--out", str(tmp_path / "x.rrd"), "--device=cpu"]) == 0
    error, bound = (curve(tmp_path / "x.rrd", f"episode_0/error/cube/{name}") for name in ("error", "bound"))
    assert error.keys() == bound.keys()
    assert min(bound.values()) > 0


@needs_rerun
def test_a_recording_is_shown_with_its_video(bundle, dataset, tmp_path):
    arguments = ["--world-model", str(bundle), "--data", str(dataset.path), "--episode", "4", "--device=cpu"]
    assert record.main([*arguments, "--out", str(tmp_path / "recorded")]) == 0
    assert main([str(tmp_path / "recorded"), "--out", str(tmp_path / "x.rrd")]) == 0
    steps = list(range(1, 14))
    assert frames_of(tmp_path / "x.rrd", "episode_4/video") == steps
    assert list(curve(tmp_path / "x.rrd", "episode_4/position/x_m/real")) == steps
    assert "episode_4/error/error_mm" in entities(tmp_path / "x.rrd")


@needs_rerun
def test_the_viewer_is_opened_where_that_is_asked_for(dataset, tmp_path, monkeypatch):
    import rerun

    opened = []
    monkeypatch.setattr(rerun.RecordingStream, "spawn", lambda self, **options: opened.append(options))
    monkeypatch.chdir(tmp_path)
    assert main([str(dataset.path), "--spawn", "--episodes", "0"]) == 0
    assert opened[0]["default_blueprint"] is not None
    assert not list(tmp_path.glob("*.rrd"))


@needs_rerun
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["EMPTY"], "is no dataset (data/metadata.json), no bundle (config.yaml) and no recording"),
        (["nowhere"], "no world model bundle 'nowhere'"),
        (["DATA", "--episodes", "77"], "has episodes 0 to 9, not 77"),
        (["DATA", "--data", "DATA"], "--data is for a bundle to dream"),
        (["DATA", "--spawn", "--out", "x.rrd"], "give one of them"),
        (["BUNDLE"], "ships no held-out episodes; pass a dataset with --data"),
    ],
)
def test_what_cannot_be_viewed_says_why(words, said, dataset, bundle, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    places = {"EMPTY": str(tmp_path / "empty"), "DATA": str(dataset.path), "BUNDLE": str(bundle)}
    assert main([places.get(word, word) for word in words]) == 1
    assert said in capsys.readouterr().err


def test_without_rerun_it_says_how_to_install_it(dataset, monkeypatch, capsys):
    monkeypatch.setattr("cosmos_isaac_wm.reporting.view.find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, "rerun", raising=False)
    assert main([str(dataset.path)]) == 1
    assert "pip install 'cosmos-isaac-wm[rerun]'" in capsys.readouterr().err
