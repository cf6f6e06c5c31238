import numpy as np
import pytest

from cosmos_isaac_wm.data import DatasetError, EpisodeDataset, write_dataset
from cosmos_isaac_wm.data.coverage import coverage


@pytest.fixture
def visited(tmp_path, scene, make_episode) -> EpisodeDataset:
    """Five short episodes of two kinds."""
    kinds = ["push", "push", "slide", "push", "push"]
    episodes = [make_episode(scene, seed, 8, kind) for seed, kind in enumerate(kinds)]
    return EpisodeDataset(write_dataset(tmp_path / "visited", episodes, scene, ["train"] * 5))


def test_coverage_counts_what_was_visited_and_draws_it(tmp_path, visited):
    numbers = coverage(visited, tmp_path / "coverage.png")
    assert (numbers["episodes"], numbers["push_episodes"], numbers["slide_episodes"]) == (5, 4, 1)
    assert numbers["push_path_m"] == pytest.approx(
        np.sqrt(2) * 0.1, abs=1e-6
    )  # the toy cube drifts 0.1 m along x and y
    assert numbers["push_displacement_m"] == pytest.approx(numbers["push_path_m"], abs=1e-6)
    assert (tmp_path / "coverage.png").read_bytes().startswith(b"\x89PNG")


def test_coverage_of_episodes_without_one_of_the_objects_is_drawn(tmp_path, scene, make_episode):
    episode = make_episode(scene, 0, kind="slide")
    del episode.positions["pusher"]
    write_dataset(tmp_path / "slides", [episode], scene, ["train"])
    assert coverage(EpisodeDataset(tmp_path / "slides"), tmp_path / "coverage.png")["slide_episodes"] == 1
    assert (tmp_path / "coverage.png").read_bytes().startswith(b"\x89PNG")


def test_coverage_without_positions_is_refused(tmp_path, visited):
    visited.metadata["scene"] |= {"markers": [], "agent": None}
    with pytest.raises(DatasetError, match="no positions"):
        coverage(visited, tmp_path / "coverage.png")
