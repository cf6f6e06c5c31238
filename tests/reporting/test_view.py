import sys

import numpy as np
import pytest

from cosmos_isaac_wm.reporting.view import Shown, rerun, write_rrd
from tests.rrd import curve, entities, frames_of, needs_rerun


@pytest.fixture
def shown():
    frames = np.random.default_rng(0).integers(0, 256, (3, 16, 24, 3), dtype=np.uint8)
    track = np.array([[1.0, 2.0], [np.nan, np.nan], [3.0, 4.0]])
    return Shown(
        "episode_7",
        10.0,
        {"real": (0, frames), "dream": (1, frames[1:])},
        {"real/cube_real": (0, track)},
        {"reward/real": (1, np.array([0.5, np.nan, 1.5]))},
    )


@needs_rerun
def test_pictures_tracks_and_curves_lie_on_one_timeline(shown, tmp_path):
    write_rrd(tmp_path / "x.rrd", [shown])
    assert frames_of(tmp_path / "x.rrd", "episode_7/real") == [0, 1, 2]
    assert frames_of(tmp_path / "x.rrd", "episode_7/dream") == [1, 2]
    assert curve(tmp_path / "x.rrd", "episode_7/reward/real") == {1: 0.5, 3: 1.5}  # what is not known is not shown
    (batch,) = entities(tmp_path / "x.rrd")["episode_7/reward/real"]
    assert [time.total_seconds() for time in batch.column("time").to_pylist()] == pytest.approx([0.1, 0.3])


@needs_rerun
def test_a_track_is_a_growing_line_with_a_point_at_its_end(shown, tmp_path):
    write_rrd(tmp_path / "x.rrd", [shown])
    lines = [
        line
        for batch in entities(tmp_path / "x.rrd")["episode_7/real/cube_real"]
        for line in batch.column("LineStrips2D:strips").to_pylist()
    ]
    assert [len(line[0]) for line in lines] == [1, 1, 2]
    assert lines[-1][0] == [[1.5, 2.5], [3.5, 4.5]]  # a pixel's centre is half a pixel from its corner
    assert frames_of(tmp_path / "x.rrd", "episode_7/real/cube_real/here") == [0, 1, 2]


@needs_rerun
def test_the_viewer_is_told_how_to_lay_it_out(shown, tmp_path):
    from rerun.chunk import RrdReader

    write_rrd(tmp_path / "x.rrd", [shown])
    assert len(RrdReader(tmp_path / "x.rrd").blueprints()) == 1


@needs_rerun
def test_a_file_is_whole_or_not_there(shown, tmp_path):
    shown.pictures["wrong"] = (0, np.zeros((1, 2), np.uint8))
    with pytest.raises(Exception, match=r".+"):
        write_rrd(tmp_path / "x.rrd", [shown])
    assert not list(tmp_path.iterdir())


def test_without_rerun_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr("cosmos_isaac_wm.reporting.view.find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, "rerun", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'cosmos-isaac-wm\[rerun\]'"):
        rerun()
