import numpy as np
import pytest

from cosmos_isaac_wm.data import DatasetError, EpisodeDataset, write_dataset
from cosmos_isaac_wm.evaluation.open_loop import dream, first_dreamed
from cosmos_isaac_wm.evaluation.perception_metrics import decode_frames, locate
from cosmos_isaac_wm.evaluation.twins import foretold
from cosmos_isaac_wm.reporting.viewed import of_dream, of_episode, of_recording
from tests.dots import dot_twin, recorded_dots


def test_an_episode_is_shown_as_it_was_recorded(dataset):
    shown, episode = of_episode(dataset, 3), dataset[3]
    assert shown.name == "episode_3"
    assert shown.hz == 10.0
    assert list(shown.pictures) == ["real"]
    np.testing.assert_array_equal(shown.pictures["real"][1], episode.frames)
    np.testing.assert_array_equal(shown.curves["position/cube_x/real"][1], episode.positions["cube"][:, 0])
    assert shown.curves["action/1"] == (0, pytest.approx(episode.actions[:, 1]))
    expected = dataset.scene.to_pixels(episode.positions["pusher"])
    np.testing.assert_allclose(shown.tracks["real/pusher_real"][1], expected)


def test_a_dream_stands_beside_its_truth_from_the_first_dreamed_frame_on(model, dataset):
    shown, episode, first = of_dream(model, dataset, 1), dataset[1], first_dreamed(model)
    latents = dream(model, [episode])[0]
    assert shown.pictures["dream"][0] == first
    np.testing.assert_array_equal(shown.pictures["dream"][1], decode_frames(model, latents))
    assert shown.curves["position/cube_y/dream"][0] == first
    np.testing.assert_allclose(shown.curves["position/cube_y/dream"][1], locate(model, latents)[:, 0, 1], atol=1e-5)
    assert len(shown.tracks["dream/cube_dream"][1]) == len(episode.frames) - first
    assert not [path for path in shown.curves if path.startswith("error")]  # the bundle has no bound


def test_a_twin_shows_what_is_observed_and_earned_in_both_worlds(tmp_path):
    scene, episodes = recorded_dots()
    data = EpisodeDataset(write_dataset(tmp_path / "dots", episodes, scene, ["test"] * len(episodes)))
    twin = dot_twin()
    shown, first = of_dream(twin, data, 0), first_dreamed(twin)
    told = foretold(twin, data[0], dream(twin, [data[0]])[0], first)
    np.testing.assert_allclose(shown.curves["reward/dream"][1], told.rewards, atol=1e-5)
    np.testing.assert_allclose(shown.curves["reward/real"][1], data[0].rewards)
    assert shown.curves["reward/real"][0] == 1  # an action's reward stands at the frame that it led to
    observed = [path for path in shown.curves if path.startswith("observation")]
    assert {path.rpartition("/")[2] for path in observed} == {"real", "dream"}


def test_an_episode_that_is_not_there_or_too_short_is_an_error(model, dataset, tmp_path, make_episode, scene):
    with pytest.raises(DatasetError, match="has episodes 0 to 9, not 10"):
        of_episode(dataset, 10)
    short = EpisodeDataset(write_dataset(tmp_path / "short", [make_episode(scene, 0, steps=3)], scene))
    with pytest.raises(DatasetError, match="episode 0 has 4 frames; a dream of it needs 5"):
        of_dream(model, short, 0)


HEAD = "episode,step,time_s,true_x_m,dream_x_m,error_mm,detected,dream_reward,real_reward\n"


def test_a_log_becomes_curves_of_both_worlds(tmp_path):
    rows = "0,1,0.1,0.5,0.6,100,1,-1,-2\n0,2,0.2,,0.7,,0,-1,\n3,1,0.1,0.1,0.1,0,1,0,0\n"
    (tmp_path / "cube_positions.csv").write_text(HEAD + rows)
    first, second = of_recording(tmp_path)
    assert (first.name, second.name, first.hz) == ("episode_0", "episode_3", 10.0)
    np.testing.assert_array_equal(first.curves["position/x_m/real"][1], [0.5, np.nan])
    np.testing.assert_array_equal(first.curves["position/x_m/dream"][1], [0.6, 0.7])
    np.testing.assert_array_equal(first.curves["reward/reward/real"][1], [-2.0, np.nan])
    assert first.curves["error/error_mm"][0] == 1
    assert not first.pictures


@pytest.mark.parametrize(
    "text", ["", HEAD, HEAD + "0,x,0.1,1,1,1,1,1,1\n", "a,b\n1,2\n", HEAD + "0,1,0,1,1,1,1,1,1\n", HEAD + "0,1\n"]
)
def test_what_is_no_log_is_refused_with_its_name(text, tmp_path):
    (tmp_path / "cube_positions.csv").write_text(text)
    with pytest.raises(DatasetError, match=r"cube_positions\.csv"):
        of_recording(tmp_path)
