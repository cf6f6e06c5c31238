import pytest

from cosmos_isaac_wm.telemetry import PROJECT, track, tracking
from tests.trackers import put_in


@pytest.fixture
def trackers(monkeypatch):
    return put_in(monkeypatch)


def test_figures_are_handed_on_inside_and_nowhere_else(trackers, tmp_path):
    trackio = trackers("trackio")
    track({"loss": 9.0}, 0)
    with tracking("auto", "fit-dynamics", {"seed": 3}, tmp_path / "runs"):
        track({"loss": 1.0, "unknown": float("nan")}, 5)
        track({"unknown": float("nan")}, 6)
        track({"result": 2.0})
    track({"loss": 9.0}, 7)
    assert trackio.rows == [(5, {"loss": 1.0}), (None, {"result": 2.0})]
    assert trackio.finished == 1
    name = f"fit-dynamics {tmp_path / 'runs'}"
    assert trackio.runs == [{"project": PROJECT, "name": name, "config": {"seed": 3}, "resume": "allow"}]


def test_weights_and_biases_goes_on_with_a_run_by_its_id(trackers, tmp_path):
    wandb = trackers("wandb")
    for out in (tmp_path / "a", tmp_path / "a", tmp_path / "b"):
        with tracking("auto", "fit-dynamics", {}, out):
            pass
    first, again, other = (run["id"] for run in wandb.runs)
    assert first == again != other


def test_a_command_without_a_folder_is_a_new_run_each_time(trackers):
    trackio = trackers("trackio")
    with tracking("trackio", "evaluate", {}, None):
        pass
    assert trackio.runs == [{"project": PROJECT, "config": {}}]


def test_trackio_comes_first_and_the_other_one_by_name(trackers):
    trackio, wandb = trackers("trackio"), trackers("wandb")
    for package in ("auto", "trackio", "wandb"):
        with tracking(package, "evaluate", {}, None):
            pass
    assert (len(trackio.runs), len(wandb.runs)) == (2, 1)


@pytest.mark.parametrize(
    ("package", "said"),
    [
        ("auto", "neither trackio nor Weights & Biases is installed"),
        ("wandb", "wandb is installed: pip install trackio"),
    ],
)
def test_without_the_package_it_says_what_to_install(trackers, package, said):
    with pytest.raises(ImportError, match=r"pip install trackio .* or pip install wandb"):
        tracking(package, "evaluate", {}, None).__enter__()


def test_a_tracker_that_is_gone_is_said_once_and_the_work_goes_on(trackers):
    trackio = trackers("trackio")
    with tracking("auto", "evaluate", {}, None):
        trackio.broken = True
        with pytest.warns(RuntimeWarning, match=r"takes no more figures \(ConnectionError: nobody there\)"):
            track({"loss": 1.0}, 1)
        trackio.broken = False
        track({"loss": 1.0}, 2)
    assert trackio.rows == []


def test_an_error_ends_the_run_as_well(trackers):
    trackio = trackers("trackio")
    with pytest.raises(ValueError, match="the loss"), tracking("auto", "evaluate", {}, None):
        raise ValueError("the loss is nan")
    assert trackio.finished == 1


def test_of_several_processes_the_main_one_tracks(trackers, monkeypatch):
    trackio = trackers("trackio")
    monkeypatch.setenv("RANK", "1")
    with tracking("auto", "fit-dynamics", {}, None):
        track({"loss": 1.0}, 1)
    assert not trackio.runs
    assert not trackio.rows
