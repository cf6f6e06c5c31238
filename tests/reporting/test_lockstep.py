import csv
import json

import imageio.v2 as imageio
import numpy as np
import pytest
from gymnasium.error import ResetNeeded

from cosmos_isaac_wm.envs import DreamEnv, RealEnv, RealTwinEnv
from cosmos_isaac_wm.policies.scripted import GoalPusher
from cosmos_isaac_wm.reporting.lockstep import LockstepRecorder
from cosmos_isaac_wm.reporting.log import CSV_COLUMNS, REWARD_COLUMNS
from cosmos_isaac_wm.world_model import WorldModel
from tests.dots import dot_twin


def read(folder):
    with (folder / "cube_positions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def lockstep(tmp_path_factory):
    """Two short live episodes of the shipped model: the recorder, rewards and infos, and the folder."""
    model, out = WorldModel.load(), tmp_path_factory.mktemp("lockstep")
    kwargs = {"world_model": model, "max_episode_steps": 5, "reward_type": "progress"}
    recorder = LockstepRecorder(DreamEnv(**kwargs), RealEnv(**kwargs), out)
    steps = []
    for seed in (0, 1):
        observation, _ = recorder.reset(seed=seed)
        ended = False
        while not ended:
            observation, reward, terminated, truncated, info = recorder.step(GoalPusher().predict(observation)[0])
            steps.append((reward, info))
            ended = terminated or truncated
    return recorder, steps, out


@pytest.mark.opengl
def test_live_steps_are_logged_with_both_rewards_and_the_gap(lockstep):
    _, steps, out = lockstep
    rows = read(out)
    assert tuple(rows[0]) == (*CSV_COLUMNS, *REWARD_COLUMNS)
    assert [(row["episode"], row["step"]) for row in rows] == [(str(e), str(s)) for e in (0, 1) for s in range(1, 6)]
    for row, (reward, info) in zip(rows, steps, strict=True):
        assert float(row["dream_reward"]) == pytest.approx(reward, rel=1e-3)
        assert float(row["real_reward"]) == pytest.approx(info["other_reward"], rel=1e-3)
        assert float(row["error_mm"]) == pytest.approx(1000 * info["gap_m"], rel=1e-2)
        assert float(row["error_mm"]) < 15  # five steps from the same state


@pytest.mark.opengl
def test_live_episodes_leave_what_a_replay_leaves(lockstep):
    recorder, _, out = lockstep
    assert sorted(path.name for path in out.iterdir()) == [
        "cube_positions.csv",
        "dream_vs_real.mp4",
        "error_vs_horizon.png",
        "metrics.json",
        "tracking_metrics.txt",
        "trajectory.png",
    ]
    numbers = json.loads((out / "metrics.json").read_text())
    assert numbers == recorder.evaluation.numbers()
    assert 0 < numbers["push_floor_rmse_px512"] < 5
    with imageio.get_reader(out / "dream_vs_real.mp4") as video:
        assert video.count_frames() == 10
    with pytest.raises(ResetNeeded):
        recorder.step(np.zeros(2, np.float32))


@pytest.mark.opengl
def test_the_agent_may_see_the_real_simulator_instead(tmp_path):
    model = WorldModel.load()
    dream, real = (kind(model, max_episode_steps=1) for kind in (DreamEnv, RealEnv))
    recorder = LockstepRecorder(dream, real, tmp_path, sees="real")
    chosen = next(e for e, k in zip(model.contexts.episodes.tolist(), model.contexts.kinds, strict=True) if k == "push")
    _, info = recorder.reset(seed=0, options={"episode": chosen, "goal": (0.1, 0.1)})
    assert info["goal"] == pytest.approx([0.1, 0.1])
    assert np.allclose(real.task.goals, dream.task.goals)
    assert np.array_equal(real.context, dream.context)
    result = recorder.step(np.zeros(2, np.float32))
    assert result[4]["cube_position"] == pytest.approx(real.simulator.positions()["cube"])
    with pytest.raises(ValueError, match="no such context"):
        recorder.reset(options={"episode": 10**6})


def test_lockstep_refuses_other_environments_and_other_eyes(world_model, tmp_path):
    dream = DreamEnv(world_model)
    with pytest.raises(ValueError, match="a CosmosDream-v0 and a CosmosReal-v0"):
        LockstepRecorder(dream, dream, tmp_path)
    with pytest.raises(ValueError, match="unknown sees 'both'"):
        LockstepRecorder(dream, RealEnv(world_model), tmp_path, sees="both")
    with pytest.raises(ValueError, match="make both with the same world_model"):
        LockstepRecorder(dream, RealEnv("default"), tmp_path)


@pytest.mark.opengl
def test_no_episodes_end_takes_longer_than_the_last(tmp_path, monkeypatch):
    """Only the best, the worst and the newest episode keep their pictures; the metrics are of all."""
    shown = []
    monkeypatch.setattr("cosmos_isaac_wm.reporting.lockstep_table.write_outputs", lambda *args: shown.append(args[1:]))
    model = WorldModel.load()
    recorder = LockstepRecorder(*(make(model, max_episode_steps=2) for make in (DreamEnv, RealEnv)), tmp_path)
    for seed in range(6):
        recorder.reset(seed=seed)
        recorder.step(np.zeros(2, np.float32))
        recorder.step(np.zeros(2, np.float32))
    assert [len(evaluation.tracks) for evaluation, _ in shown] == [1, 2, 3, 4, 5, 6]
    assert max(len(clips) for _, clips in shown) == 3
    errors = {track.number: track.rmse_px() for track in recorder.evaluation.tracks}
    assert {clip.track.number for clip in shown[-1][1]} == {
        min(errors, key=errors.get),
        max(errors, key=errors.get),
        5,
    }


@pytest.fixture
def twins(tmp_path):
    """Recorder of a dot's twin and the dot itself."""
    model = dot_twin()
    return LockstepRecorder(DreamEnv(model), RealTwinEnv(model), tmp_path / "out", sees="real")


def test_a_twin_and_its_environment_are_logged_together(twins):
    seen, action = [], np.array([0.5, -1], np.float32)
    for seed in (0, 1):
        twins.reset(seed=seed)
        assert np.array_equal(twins.env.unwrapped.context, twins._dream.unwrapped.context)  # one first picture
        place = twins.env.unwrapped.source.shown.observation
        over = False
        while not over:
            place = np.clip(place + 0.1 * action + np.array([0.08, 0]), -1, 1)  # as the dot moves
            _, reward, terminated, truncated, info = twins.step(action)
            seen.append((place, reward, terminated, info))
            over = terminated or truncated
    with (twins.out / "states.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(seen)
    assert [row["episode"] for row in rows] == sorted(row["episode"] for row in rows)
    assert {row["episode"] for row in rows} == {"0", "1"}
    spread = twins.env.unwrapped.world_model.perception.heads.std[:2].numpy()
    for row, (place, reward, terminated, info) in zip(rows, seen, strict=True):
        true, dreamed = (np.array([float(row[f"{world}_{n}"]) for n in range(2)]) for world in ("true", "dream"))
        assert true == pytest.approx(place, abs=1e-4)
        assert info["gap_std"] == pytest.approx(np.abs((dreamed - true) / spread).mean(), rel=1e-2)
        assert float(row["true_reward"]) == pytest.approx(reward, rel=1e-4)
        assert float(row["dream_reward"]) == pytest.approx(info["other_reward"], rel=1e-4, abs=1e-6)
        assert bool(float(row["true_end"])) == terminated
    numbers = json.loads((twins.out / "metrics.json").read_text())
    assert (numbers["episodes"], numbers["steps"]) == (2, len(rows))
    assert sorted(path.name for path in twins.out.iterdir()) == [
        "dream_vs_real.mp4",
        "metrics.json",
        "states.csv",
        "states.png",
    ]
    with pytest.raises(ResetNeeded):
        twins.step(np.zeros(2, np.float32))


def test_a_twin_keeps_the_goal_of_its_environment(tmp_path):
    model = dot_twin(name="DotGoal-v0")
    twins = LockstepRecorder(DreamEnv(model), RealTwinEnv(model), tmp_path)
    observation, _ = twins.reset(seed=0)
    assert observation["desired_goal"] == pytest.approx(twins._real.unwrapped.task.goals[0].numpy())
    assert {"other_reward", "gap_std"} <= twins.step(np.zeros(2, np.float32))[4].keys()


def test_a_twin_that_observes_pictures_only_has_nothing_to_log(tmp_path):
    model = dot_twin(observes="picture")
    real = RealTwinEnv(model, named="tests.dots:Dot-v0")
    with pytest.raises(ValueError, match="observes nothing beside its picture"):
        LockstepRecorder(DreamEnv(model), real, tmp_path)
