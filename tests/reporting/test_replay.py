import csv
import json

import gymnasium as gym
import imageio.v2 as imageio
import numpy as np
import pytest

from cosmos_isaac_wm.envs import RealEnv
from cosmos_isaac_wm.evaluation.evaluation import evaluate
from cosmos_isaac_wm.reporting.log import CSV_COLUMNS, track_rows
from cosmos_isaac_wm.reporting.replay import DreamRecorder
from cosmos_isaac_wm.world_model import WorldModel


def read(folder):
    with (folder / "cube_positions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def env(world_model):
    return gym.make("cosmos_isaac_wm:CosmosDream-v0", world_model=world_model, max_episode_steps=5)


def test_two_lines_replay_an_episode_and_write_log_video_plots_and_metrics(env, dataset, tmp_path):
    recorder = DreamRecorder(env, dataset[2], tmp_path)
    evaluation = recorder.replay()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "cube_positions.csv",
        "dream_vs_real.mp4",
        "error_vs_horizon.png",
        "metrics.json",
        "tracking_metrics.txt",
        "trajectory.png",
    ]
    assert json.loads((tmp_path / "metrics.json").read_text()) == evaluation.numbers()
    with imageio.get_reader(tmp_path / "dream_vs_real.mp4") as video:
        assert video.count_frames() == 13


def test_the_log_has_a_row_for_every_dreamed_step_and_the_documented_columns(env, dataset, tmp_path):
    DreamRecorder(env, dataset[2], tmp_path, number=2).replay()
    rows = read(tmp_path)
    assert tuple(rows[0]) == CSV_COLUMNS
    assert [int(row["step"]) for row in rows] == list(range(1, 14))
    assert {row["episode"] for row in rows} == {"2"}
    last = rows[-1]
    assert float(last["time_s"]) == pytest.approx(1.3)
    assert [float(last["true_x_m"]), float(last["true_y_m"])] == pytest.approx(
        dataset[2].positions["cube"][16], abs=1e-4
    )
    apart = np.hypot(*(float(last[f"dream_{axis}_px512"]) - float(last[f"true_{axis}_px512"]) for axis in "xy"))
    assert float(last["error_px512"]) == pytest.approx(apart, abs=0.05)


def test_the_environment_dreams_what_the_evaluation_measured(env, world_model, dataset, tmp_path):
    track = evaluate(world_model, dataset, [2]).tracks[0]
    DreamRecorder(env, dataset[2], tmp_path, number=2).replay()
    for row, expected in zip(read(tmp_path), track_rows(world_model.scene, track), strict=True):
        assert [float(value or "nan") for value in row.values()] == pytest.approx(
            [float(value or "nan") for value in expected], rel=1e-3, abs=1e-3, nan_ok=True
        )


def test_what_was_logged_survives_a_crash_in_the_middle(env, dataset, tmp_path):
    recorder = DreamRecorder(env, dataset[2], tmp_path)
    recorder.reset()
    for step in range(1, 6):
        recorder.step(recorder.next_action)
        assert len(read(tmp_path)) == step  # on disk at once, whatever happens next
    env.unwrapped.step = None  # the next step fails
    with pytest.raises(TypeError):
        recorder.step(recorder.next_action)
    assert [int(row["step"]) for row in read(tmp_path)] == [1, 2, 3, 4, 5]
    assert recorder.evaluation is None


def test_a_replay_replaces_its_own_rows_and_keeps_other_episodes(env, dataset, tmp_path):
    DreamRecorder(env, dataset[2], tmp_path, number=2).replay()
    unfinished = DreamRecorder(env, dataset[3], tmp_path, number=3)
    unfinished.reset()
    unfinished.step(unfinished.next_action)
    DreamRecorder(env, dataset[3], tmp_path, number=3).replay()
    assert [row["episode"] for row in read(tmp_path)] == ["2"] * 13 + ["3"] * 13


def test_only_the_recorded_action_is_accepted(env, dataset, tmp_path):
    recorder = DreamRecorder(env, dataset[2], tmp_path)
    recorder.reset()
    assert np.array_equal(recorder.next_action, dataset[2].actions[3])
    with pytest.raises(ValueError, match=r"expects the recorded action .* pass recorder\.next_action"):
        recorder.step(-recorder.next_action)
    assert read(tmp_path) == []


def test_the_replay_ends_with_the_recorded_episode(env, dataset, tmp_path):
    recorder = DreamRecorder(env, dataset[2], tmp_path)
    recorder.replay()
    with pytest.raises(ValueError, match="at its end"):
        recorder.step(np.zeros(2, np.float32))


def test_an_environment_that_is_no_dream_is_refused(dataset, tmp_path):
    for env in (gym.make("CartPole-v1"), RealEnv(WorldModel.load())):
        with pytest.raises(ValueError, match="records dreams such as CosmosDream-v0, not"):
            DreamRecorder(env, dataset[2], tmp_path)


def test_what_is_no_episode_is_refused(env, dataset, tmp_path):
    with pytest.raises(ValueError, match=r"expected an Episode.* got 2"):
        DreamRecorder(env, 2, tmp_path)
