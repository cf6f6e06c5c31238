import imageio.v2 as imageio
import numpy as np
import pytest

from cosmos_isaac_wm.evaluation.evaluation import evaluate
from cosmos_isaac_wm.evaluation.open_loop import dream
from cosmos_isaac_wm.perception.tracking import REFERENCE_WIDTH
from cosmos_isaac_wm.reporting import figures
from cosmos_isaac_wm.reporting.figures import draw_error_vs_horizon, draw_trajectories, film, typical, write_video
from tests.envs.test_trust import bounded


@pytest.fixture(scope="module")
def evaluation(world_model, dataset):
    return evaluate(world_model, dataset, [1, 4, 5, 8])


def test_the_best_the_median_and_the_worst_episode_are_shown(evaluation):
    titles = typical(evaluation)
    errors = {track.number: track.rmse_px() for track in evaluation.tracks}
    first, _, last = titles
    assert errors[first] == min(errors.values())
    assert errors[last] == max(errors.values())
    assert f"RMSE {errors[last]:.1f} px" in titles[last]


def test_footage_shows_the_real_frames_after_the_context_beside_as_many_dreamed_ones(world_model, dataset, evaluation):
    (clip,) = film(world_model, dataset, evaluation, {4: "an episode"})
    assert np.array_equal(clip.real, dataset[4].frames[4:])
    assert clip.dreamed.shape == clip.real.shape


def test_the_video_has_three_panels_and_a_frame_for_every_dreamed_step(world_model, dataset, evaluation, tmp_path):
    clips = film(world_model, dataset, evaluation, {4: "one", 5: "other"})
    write_video(tmp_path / "video.mp4", clips, fps=10)
    with imageio.get_reader(tmp_path / "video.mp4") as video:
        assert video.count_frames() == 26
        assert video.get_meta_data()["fps"] == 10
        assert video.get_data(0).shape == (384 + 32, 3 * 384, 3)


def test_a_bound_is_drawn_around_the_dreamed_place(world_model, dataset, evaluation, tmp_path):
    (without,) = film(world_model, dataset, evaluation, {4: "one"})
    (clip,) = film(bounded(world_model, 1, 6), dataset, evaluation, {4: "one"})
    assert without.bounds is None
    latents = dream(world_model, [dataset[4]], len(clip.bounds), first=4)[0]
    places = world_model.scene.to_pixels(world_model.locate(latents).positions[:, 0])
    around = clip.bounds - places[:, None] * (REFERENCE_WIDTH / world_model.scene.image_size[1])
    assert around.shape == (len(clip.real), 48, 2)
    assert (around.min(axis=1) < 0).all()
    assert (around.max(axis=1) > 0).all()
    frames = [figures._video_frame(each, 3) for each in (without, clip)]
    assert not np.array_equal(*frames)
    assert np.array_equal(frames[0][32:, : 2 * 384], frames[1][32:, : 2 * 384])  # on the third panel only


def test_plots_are_readable_pictures(world_model, dataset, evaluation, tmp_path):
    draw_trajectories(tmp_path / "tracks.png", film(world_model, dataset, evaluation, typical(evaluation)))
    draw_error_vs_horizon(tmp_path / "errors.png", evaluation)
    for name in ("tracks.png", "errors.png"):
        assert imageio.imread(tmp_path / name).std() > 0


def test_without_ffmpeg_a_warning_stands_for_the_video(tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "find_spec", lambda name: None)
    with pytest.warns(UserWarning, match="dream.mp4 was not made, because imageio-ffmpeg is missing"):
        figures.write_frames(tmp_path / "dream.mp4", iter([np.zeros((16, 16, 3), np.uint8)]), 10)
    assert not (tmp_path / "dream.mp4").exists()
