import dataclasses

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cosmos_isaac_wm.contexts import Contexts
from cosmos_isaac_wm.data import DatasetError, Episode, EpisodeDataset, write_dataset
from cosmos_isaac_wm.evaluation.evaluation import confidence_interval, draw_episodes, evaluate
from cosmos_isaac_wm.evaluation.open_loop import rmse
from cosmos_isaac_wm.perception import Perception
from cosmos_isaac_wm.protocols import Prediction
from cosmos_isaac_wm.sims.mujoco import MujocoTable
from cosmos_isaac_wm.world_model import WorldModel


class PixelTokenizer(nn.Module):
    """Lossless: latents are pixels in another order."""

    channels, compression = 12, 2

    def encode(self, images):
        return F.pixel_unshuffle(images, 2)

    def decode(self, latents):
        return F.pixel_shuffle(latents, 2).clamp(-1, 1)

    def fingerprint(self):
        return "pixels"


class Dynamics(nn.Module):
    """Dreams what `predict(context, step)` says."""

    context_length, channels, action_dim = 4, 12, 2

    def __init__(self, predict):
        super().__init__()
        self.predict, self.step = predict, 0

    def forward(self, context, action):
        self.step += 1
        return Prediction(self.predict(context, self.step))


def pixel_model(scene, predict):
    """A world model with perfect perception and known dynamics."""
    contexts = Contexts(
        torch.zeros(1, 4, 12, scene.image_size[0] // 2, scene.image_size[1] // 2),
        torch.zeros(1, 4, len(scene.markers), 2),
        torch.zeros(1, 0),
        torch.zeros(1),
        torch.zeros(1),
        ["push"],
    )
    return WorldModel(Perception(scene, PixelTokenizer()), Dynamics(predict), contexts).eval()


def truth_of(dataset, scene):
    """Predicts every episode of the dataset as it was."""
    encode = Perception(scene, PixelTokenizer()).encode
    latents = torch.stack([encode(episode.frames) for episode in dataset.episodes(range(len(dataset)))])
    return lambda context, step: latents[:, 3 + step]


def frozen(context, step):
    return context[:, -1]


def grey(context, step):
    return torch.zeros_like(context[:, -1])


def drawn(scene, tracks):
    """Frames with a square of each marker's colour at its position in metres, (T, 2) each."""
    frames = np.full((len(tracks["cube"]), *scene.image_size, 3), 128, np.uint8)
    for name, colour in (("pusher", (20, 60, 230)), ("cube", (220, 20, 20))):
        if name in tracks:
            for frame, (column, row) in zip(frames, np.round(scene.to_pixels(tracks[name])).astype(int), strict=True):
                frame[row - 1 : row + 2, column - 1 : column + 2] = colour
    return frames


def write(path, scene, episodes, **metadata):
    return EpisodeDataset(write_dataset(path, episodes, scene, ["test"] * len(episodes), metadata))


@pytest.fixture
def physics(tmp_path, scene):
    """Two episodes of each kind with MuJoCo's physics and states, drawn without OpenGL."""
    episodes = []
    for seed, kind in enumerate(("push", "slide", "push", "slide")):
        simulator = MujocoTable(kind)
        simulator.reset(seed, {"cube": (0.0, 0.1), "pusher": (0.02 * seed, -0.05)})
        actions = np.tile(np.float32([0.0, 0.8]), (40, 1))
        rows = [{**simulator.positions(), "state": simulator.get_state(), "pose": simulator.cube_pose()}]
        for action in actions:
            simulator.step(action)
            rows.append({**simulator.positions(), "state": simulator.get_state(), "pose": simulator.cube_pose()})
        columns = {key: np.stack([row[key] for row in rows]) for key in rows[0]}
        infos = {"state": columns.pop("state"), "cube_pose": columns.pop("pose")}
        positions = {name: track.astype(np.float32) for name, track in columns.items()}
        episodes.append(Episode(drawn(scene, positions), actions, kind, seed, positions, infos))
    return write(tmp_path / "physics", scene, episodes, simulator="mujoco")


def test_a_perfect_dream_has_no_error(scene, dataset):
    result = evaluate(pixel_model(scene, truth_of(dataset, scene)), dataset)
    numbers = result.numbers()
    assert numbers["push_cube_rmse_px512"] == numbers["push_cube_max_px512"] == numbers["push_pusher_rmse_px512"] == 0
    assert numbers["push_detection_rate"] == 1
    assert numbers["push_static_rmse_px512"] > 10
    assert numbers["tokenizer_cube_px512"] == 0
    assert numbers["horizon"] == 13


def test_a_dream_in_which_nothing_moves_is_exactly_the_static_baseline(scene, dataset):
    result = evaluate(pixel_model(scene, frozen), dataset)
    assert np.array_equal(result.errors("push"), result.baseline_errors("push", "static"))
    assert result.numbers()["push_detection_rate"] == 1


def test_a_dream_that_fades_to_grey_keeps_the_last_position_and_loses_its_detections(scene, dataset):
    result = evaluate(pixel_model(scene, grey), dataset)
    assert result.numbers()["push_detection_rate"] == 0
    assert np.array_equal(result.errors("push"), result.baseline_errors("push", "static"))


def test_a_dream_one_step_late_has_the_error_of_one_step(scene, tmp_path):
    cube = np.stack([np.linspace(-0.2, 0.2, 17), np.zeros(17)], axis=1).astype(np.float32)
    dataset = write(
        tmp_path / "late", scene, [Episode(drawn(scene, {"cube": cube}), np.zeros((16, 2), np.float32), "push")]
    )
    exact = truth_of(dataset, scene)
    result = evaluate(pixel_model(scene, lambda context, step: exact(context, step - 1)), dataset)
    columns = np.round(scene.to_pixels(cube)).astype(int)[:, 0]
    assert np.allclose(result.errors("push")[0], np.diff(columns)[3:] * 16)  # 512 / 32


def test_real_frames_without_a_cube_are_left_out_and_counted(scene, tmp_path):
    cube = np.zeros((17, 2), np.float32)
    frames = drawn(scene, {"cube": cube})
    frames[10:13] = 128
    dataset = write(tmp_path / "hidden", scene, [Episode(frames, np.zeros((16, 2), np.float32), "push")])
    result = evaluate(pixel_model(scene, frozen), dataset)
    assert np.isnan(result.errors("push")[0]).tolist() == [6 <= step < 9 for step in range(13)]
    assert result.hidden_frames("push") == 3
    assert result.numbers()["push_cube_rmse_px512"] == 0
    assert "3 real frames" in result.notes()[0]


def test_a_dream_that_jumps_or_loses_the_object_is_not_stable(scene, dataset):
    truth = truth_of(dataset, scene)
    steady = evaluate(pixel_model(scene, truth), dataset).numbers()
    assert steady["push_stable_share"] == 1
    assert steady["push_jitter_over_real"] == pytest.approx(1.0)
    lost = evaluate(pixel_model(scene, lambda c, step: truth(c, step) if step != 7 else grey(c, step)), dataset)
    assert lost.numbers()["push_stable_share"] == 0
    flipped = evaluate(
        pixel_model(scene, lambda c, step: truth(c, step) if step % 2 else truth(c, step).flip(-1)), dataset
    ).numbers()
    assert flipped["push_detection_rate"] == 1
    assert flipped["push_stable_share"] < 1
    assert flipped["push_jitter_over_real"] > 10


def test_the_figures_are_those_that_others_rely_on(world_model, physics):
    cube = [f"cube_{name}_px512" for name in ("rmse", "median", "mean", "max")]
    cube += ["cube_rmse_px512_at_16", "cube_rmse_px512_at_32", "cube_median_px512_at_last_step"]
    cube += [f"cube_{figure}_px512_ci_{end}" for figure in ("rmse", "median") for end in ("low", "high")]
    others = [f"{name}_rmse_px512" for name in ("static", "constant_velocity", "floor", "knowable")]
    others += ["static_rmse_px512_at_16", "static_rmse_px512_at_32"]
    cube += ["cube_heading_deg", "cube_heading_deg_at_16", "cube_heading_deg_at_32"]
    others += ["over_floor", "over_knowable", "heading_deg_at_16", "heading_deg_at_32", "heading_length_at_last_step"]
    per_kind = [*cube, *others, "detection_rate", "episodes", "stable_share", "jitter_over_real"]
    shared = ["tokenizer_psnr_db", "tokenizer_cube_px512", "readout_cube_mm", "readout_pusher_mm", "readout_cube_deg"]
    shared += ["action_sensitivity", "horizon"]
    expected = {f"{kind}_{key}" for kind in ("slide", "push") for key in per_kind}
    numbers = evaluate(world_model, physics).numbers()
    assert set(numbers) == expected | {
        *shared,
        "push_pusher_rmse_px512",
        "push_pusher_floor_rmse_px512",
    }  # a slide has no pusher
    assert all(np.isfinite(list(numbers.values())))
    assert numbers["slide_knowable_rmse_px512"] != numbers["slide_floor_rmse_px512"]
    assert 0 <= numbers["push_heading_length_at_last_step"] <= 1
    assert numbers["push_over_floor"] == numbers["push_cube_rmse_px512"] / numbers["push_floor_rmse_px512"]


def test_a_dream_that_ignores_its_actions_has_no_action_sensitivity(world_model, physics):

    dynamics = world_model.dynamics
    ignoring = type(dynamics)(dataclasses.replace(dynamics.config, action_dim=0)).eval()
    numbers = evaluate(WorldModel(world_model.perception, ignoring, world_model.contexts).eval(), physics).numbers()
    assert numbers["action_sensitivity"] == 0


def test_the_same_seed_measures_the_same(world_model, physics):
    first, again, other = (evaluate(world_model, physics, seed=seed).numbers() for seed in (0, 0, 1))
    assert first == again
    assert first["push_floor_rmse_px512"] != other["push_floor_rmse_px512"]
    assert first["push_cube_rmse_px512"] == other["push_cube_rmse_px512"]


def test_the_precision_of_the_dream_can_be_chosen(world_model, dataset):
    exact, rough = (evaluate(world_model, dataset, dtype=dtype).tracks[0] for dtype in ("float32", "bfloat16"))
    assert not np.array_equal(rough.dream_m, exact.dream_m)
    assert np.allclose(rough.dream_m, exact.dream_m, atol=0.02)  # metres


def test_without_a_simulator_there_is_no_floor_and_a_note_says_so(world_model, dataset):
    result = evaluate(world_model, dataset)
    assert not {"push_floor_rmse_px512", "push_over_floor", "action_sensitivity"} & set(result.numbers())
    assert "no predictability floor" in " ".join(result.notes())


def test_without_markers_only_latents_and_pictures_are_compared(world_model, scene, tmp_path):
    bare = dataclasses.replace(scene, markers=(), agent=None, workspace_low=None, workspace_high=None, camera=None)
    tokenizer = world_model.perception.tokenizer
    model = WorldModel(Perception(bare, tokenizer).eval(), world_model.dynamics, world_model.contexts).eval()
    frames = np.random.default_rng(0).integers(0, 256, (2, 9, *scene.image_size, 3), np.uint8)
    dataset = write(
        tmp_path / "bare", bare, [Episode(pictures, np.zeros((8, 2), np.float32), "film") for pictures in frames]
    )
    result = evaluate(model, dataset)
    assert set(result.numbers()) == {"film_episodes", "horizon", "latent_l1", "tokenizer_psnr_db"}
    assert result.numbers()["latent_l1"] > 0


def test_positions_in_metres_are_compared_where_the_data_has_them(world_model, dataset):
    track = evaluate(world_model, dataset, [3]).tracks[0]
    assert np.allclose(track.reference.true_m[:, 0], dataset[3].positions["cube"][4:])
    expected = 1000 * np.linalg.norm(track.dream_m[:, 1] - dataset[3].positions["pusher"][4:], axis=1)
    assert np.allclose(track.errors_mm(1), expected)


def test_episodes_of_different_lengths_are_measured_to_their_own_ends(scene, tmp_path):
    episodes = [
        Episode(drawn(scene, {"cube": np.zeros((n + 1, 2), np.float32)}), np.zeros((n, 2), np.float32), "push")
        for n in (12, 9, 12)
    ]
    result = evaluate(pixel_model(scene, frozen), write(tmp_path / "mixed", scene, episodes))
    assert np.isfinite(result.errors("push")).sum(axis=1).tolist() == [9, 6, 9]
    assert [track.number for track in result.tracks] == [0, 1, 2]


def test_a_shorter_horizon_is_the_start_of_the_longer_one(world_model, dataset):
    whole, short = evaluate(world_model, dataset), evaluate(world_model, dataset, horizon=5)
    assert short.numbers()["horizon"] == 5
    assert np.array_equal(short.errors("push"), whole.errors("push")[:, :5])


def test_truths_that_are_known_are_measured_once_and_change_nothing(world_model, dataset, monkeypatch):
    truths = {}
    first = evaluate(world_model, dataset, truths=truths)
    assert sorted(truths) == [track.number for track in first.tracks]
    monkeypatch.setattr("cosmos_isaac_wm.evaluation.evaluation.reference", None)
    assert evaluate(world_model, dataset, truths=truths).numbers() == first.numbers()


def test_an_episode_too_short_to_dream_is_named(scene, tmp_path):
    short = Episode(np.zeros((4, *scene.image_size, 3), np.uint8), np.zeros((3, 2), np.float32))
    dataset = write(tmp_path / "short", scene, [short])
    with pytest.raises(DatasetError, match=r"episode 0 .* has 4 frames"):
        evaluate(pixel_model(scene, frozen), dataset)


def test_the_confidence_interval_holds_the_figure_and_narrows_with_more_episodes():
    rng = np.random.default_rng(0)
    errors = np.abs(rng.normal(10.0, 3.0, (40, 1))) * np.ones((1, 20))
    low, high = confidence_interval(errors, rmse, seed=0)
    assert low < rmse(errors) < high
    few_low, few_high = confidence_interval(errors[:5], rmse, seed=0)
    assert high - low < few_high - few_low
    assert np.isnan(confidence_interval(errors[:1], rmse, seed=0)).all()


def test_episodes_are_drawn_by_seed_from_the_split(dataset):
    assert draw_episodes(dataset, "test", None, 0) == [9]
    drawn_ones = draw_episodes(dataset, "train", 3, 0)
    assert drawn_ones == draw_episodes(dataset, "train", 3, 0)
    assert set(drawn_ones) < set(range(8))
    with pytest.raises(DatasetError, match=r"asked for 5 .* has 1"):
        draw_episodes(dataset, "test", 5, 0)
