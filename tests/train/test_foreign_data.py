"""Recordings as others make them: what is mended on the way in, what is refused, and that no fit is lost to one."""

from __future__ import annotations

import json
import time

import h5py
import minari
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage

import cosmos_isaac_wm.train.fit_dynamics as fit_dynamics_script
from cosmos_isaac_wm.data import DatasetError, Episode, EpisodeDataset, assign_splits, write_dataset
from cosmos_isaac_wm.data.splits import draw_splits
from cosmos_isaac_wm.envs import DreamEnv
from cosmos_isaac_wm.scene import Scene
from cosmos_isaac_wm.train import evaluate, fit_dynamics, fit_tokenizer, import_isaac
from cosmos_isaac_wm.world_model import WorldModel

PLAIN = Scene("mine", 10.0, (32, 32), (-1.0, -1.0), (1.0, 1.0))


def episode(rng, steps, size=(32, 32), dim=2):
    """A square that moves along, under actions that do nothing."""
    frames = np.full((steps + 1, *size, 3), 128, np.uint8)
    for t, frame in enumerate(frames):
        left = 2 * t % (size[1] - 8)
        frame[12:18, left : left + 6] = (220, 20, 20)
    return Episode(frames, rng.uniform(-1, 1, (steps, dim)).astype(np.float32))


def recording(path, count=10, steps=20, size=(32, 32), actions=None):
    """A file of Isaac Lab's RecorderManager."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        for number in range(count):
            one = episode(rng, steps, size)
            demo = file.create_group(f"data/demo_{number}")
            demo["obs/rgb"] = one.frames[:-1]
            demo["actions"] = one.actions if actions is None else actions(rng, steps)
    return path


@pytest.fixture
def fits(tiny_perception, tiny_fit, tmp_path):
    """Fit tokenizer and dynamics to a dataset through the command line; the bundle."""

    def run(data, *more):
        arguments = [f"--data={data}", f"--out={tmp_path / 'eyes'}", *tiny_perception, "--fit.updates=3"]
        assert fit_tokenizer.main(arguments) == 0
        arguments = [f"--data={data}", f"--perception={tmp_path / 'eyes'}", f"--out={tmp_path / 'model'}", *tiny_fit]
        assert fit_dynamics.main([*arguments, "--dynamics.width=16", "--dynamics.blocks=1", *more]) == 0
        return WorldModel.load(tmp_path / "model")

    return run


@pytest.mark.parametrize("short", [0, 8, 9], ids=["train", "val", "test"])
def test_short_episodes_are_left_out_with_a_word(tmp_path, fits, short, capsys):
    rng, lengths = np.random.default_rng(0), [20] * 10
    lengths[short] = 2
    splits = ["train"] * 8 + ["val", "test"]
    write_dataset(tmp_path / "data", (episode(rng, steps) for steps in lengths), PLAIN, splits)
    model = fits(tmp_path / "data", "--contexts=96")
    assert len(model.contexts) == 8 - (short == 0)
    assert short not in model.contexts.episodes.tolist()
    said = capsys.readouterr().err
    assert f"{splits[short]} episodes {short} have fewer than 5 frames and are left out" in said


def test_a_dataset_of_short_episodes_only_is_refused_at_once(tmp_path, fitted, tiny_fit, capsys):
    rng = np.random.default_rng(0)
    scene = WorldModel.load(fitted).scene
    write_dataset(tmp_path / "data", [episode(rng, 2) for _ in range(4)], scene, ["train"] * 2 + ["val", "test"])
    began = time.monotonic()
    arguments = [f"--data={tmp_path / 'data'}", f"--init={fitted}", f"--out={tmp_path / 'model'}", *tiny_fit]
    assert fit_dynamics.main(arguments) == 1
    assert time.monotonic() - began < 10
    assert "no training episode" in capsys.readouterr().err


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_a_few_demonstrations_are_enough(tmp_path, fits, count, capsys):
    assert import_isaac.main([str(recording(tmp_path / "demos.hdf5", count)), "--out", str(tmp_path / "data")]) == 0
    model = fits(tmp_path / "data")
    said = "".join(capsys.readouterr())
    assert model.metrics["episode_episodes"] >= 1
    assert model.verdict.unseen == (count > 1)
    assert ("learned by heart" in said) == (count == 1)
    assert ("judged on training episodes" in model.verdict.words()) == (count == 1)


def test_splits_of_three_or_more_have_all_parts_and_large_ones_are_as_before():
    for count in range(3, 30):
        assert set(draw_splits(["a"] * count, 0)) == {"train", "val", "test"}
    assert sorted(draw_splits(["a"] * 2, 0)) == ["train", "val"]
    assert draw_splits(["a"], 0) == ["train"]
    many = draw_splits(["a"] * 100, 0)
    assert [many.count(name) for name in ("train", "val", "test")] == [80, 10, 10]


def test_an_action_that_never_changes_is_left_out_of_the_scaling(tmp_path, fits, capsys):
    def closed(rng, steps):
        actions = rng.uniform(-1, 1, (steps, 3)).astype(np.float32)
        actions[:, 2] = 1  # the gripper stays closed
        return actions

    file = recording(tmp_path / "demos.hdf5", actions=closed)
    bounds = ["--action_low", "[-1, -1, 1]", "--action_high", "[1, 1, 1]"]
    assert import_isaac.main([str(file), "--out", str(tmp_path / "data"), *bounds]) == 0
    model = fits(tmp_path / "data")
    assert "action dimensions [2] have one value only" in capsys.readouterr().err
    scaled = model.perception.scale_actions(np_actions := model.perception.action_high.new_tensor([[0.5, -1.0, 1.0]]))
    assert scaled.tolist() == [[0.5, -1.0, 0.0]]
    env = DreamEnv(model, obs_type="latent", reward_fn=lambda outcome: np.zeros(1))
    env.reset(seed=0)
    assert np.isfinite(env.step(np_actions[0].numpy())[0]).all()


def unbounded(folder, change=lambda index, actions: actions, **spaces):
    """A Minari dataset of a task whose actions have no bounds, as its DataCollector writes it."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    storage = MinariStorage.new(
        folder / "data",
        observation_space=spaces.get("observation", Box(0, 255, (32, 32, 3), np.uint8)),
        action_space=Box(-np.inf, np.inf, (2,), np.float32),
        data_format="hdf5",
    )
    for index in range(10):
        one = episode(rng, 20)
        observations = one.frames
        if "observation" in spaces:
            observations = {"rgb": one.frames, "joints": np.arange(63, dtype=np.float32).reshape(21, 3)}
        storage.update_episodes(
            [
                EpisodeBuffer(
                    id=index,
                    observations=observations,
                    actions=change(index, 3 * one.actions),
                    rewards=list(range(20)),
                    terminations=[False] * 19 + [True],
                    truncations=[False] * 20,
                    infos={},
                )
            ]
        )
    storage.update_metadata({"dataset_id": "mine/unbounded-v0", "minari_version": minari.__version__})
    assign_splits(folder, seed=0)
    return EpisodeDataset(folder)


def test_bounds_of_unbounded_actions_come_from_the_data(tmp_path, fits, capsys):
    data = unbounded(tmp_path / "data")
    recorded = np.concatenate(data.actions)
    assert np.allclose(data.scene.action_low, recorded.min(axis=0))
    assert np.allclose(data.scene.action_high, recorded.max(axis=0))
    model = fits(tmp_path / "data")
    assert "the actions have no bounds" in capsys.readouterr().err
    assert model.scene.action_high == data.scene.action_high
    assert np.isfinite(DreamEnv(model, obs_type="rgb", reward_fn=lambda _: np.zeros(1)).action_space.high).all()


def test_an_action_that_is_not_finite_is_named_before_the_work(tmp_path, tiny_perception, capsys):
    def broken(index, actions):
        actions[7] = np.nan if index == 4 else actions[7]
        return actions

    unbounded(tmp_path / "data", broken)
    began = time.monotonic()
    assert fit_tokenizer.main([f"--data={tmp_path / 'data'}", f"--out={tmp_path / 'eyes'}", *tiny_perception]) == 1
    assert "episode 4" in (said := capsys.readouterr().err)
    assert "step 7" in said
    assert time.monotonic() - began < 10


def test_rewards_ends_and_vector_observations_are_kept_when_they_are_read(tmp_path):
    space = Dict({"rgb": Box(0, 255, (32, 32, 3), np.uint8), "joints": Box(-np.inf, np.inf, (3,), np.float32)})
    first = unbounded(tmp_path / "data", observation=space)[0]
    assert first.rewards.tolist() == list(range(20))
    assert first.terminations.tolist() == [False] * 19 + [True]
    assert not first.truncations.any()
    assert first.observations["joints"].shape == (21, 3)
    write_dataset(tmp_path / "copy", [first], PLAIN)  # rewards and ends are written as well
    again = EpisodeDataset(tmp_path / "copy")[0]
    assert again.rewards.tolist() == first.rewards.tolist()
    assert again.terminations.tolist() == first.terminations.tolist()


def test_one_number_a_step_is_an_action_of_one_dimension(tmp_path):
    file = recording(tmp_path / "a.hdf5", actions=lambda rng, steps: rng.integers(0, 2, steps))
    assert import_isaac.main([str(file), "--out", str(tmp_path / "data")]) == 0
    data = EpisodeDataset(tmp_path / "data")
    assert data.scene.action_dim == 1
    assert data[0].actions.shape == (19, 1)
    one = Episode(data[0].frames, data[0].actions[:, 0])
    write_dataset(tmp_path / "flat", [one], data.scene)
    assert EpisodeDataset(tmp_path / "flat")[0].actions.shape == (19, 1)


def test_pictures_that_eight_does_not_divide_are_padded(tmp_path, fits):
    file = recording(tmp_path / "demos.hdf5", size=(36, 44))
    assert import_isaac.main([str(file), "--out", str(tmp_path / "data")]) == 0
    model = fits(tmp_path / "data")
    assert model.perception.latent_shape == (16, 6, 6)  # 48 x 48
    env = DreamEnv(model, obs_type="rgb", reward_fn=lambda _: np.zeros(1), render_mode="rgb_array")
    frames = EpisodeDataset(tmp_path / "data")[0].frames
    observation, _ = env.reset(options={"frames": frames[:4]})
    assert observation.shape == (36, 44, 3)
    assert env.observation_space.contains(env.step(np.zeros(2, np.float32))[0])
    assert env.render().shape == (36, 44, 3)


@pytest.mark.parametrize(
    ("change", "advice"),
    [
        (lambda frames: np.moveaxis(frames, -1, 1), "channels come last"),
        (lambda frames: frames / np.float32(255), "255"),
    ],
    ids=["channels first", "float"],
)
def test_pictures_in_another_form_are_refused_with_the_conversion(tmp_path, change, advice, capsys):
    one = episode(np.random.default_rng(0), 8)
    with pytest.raises(DatasetError, match=advice):
        write_dataset(tmp_path / "data", [Episode(change(one.frames), one.actions)], PLAIN)
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["data/demo_0/obs/rgb"], file["data/demo_0/actions"] = change(one.frames[:-1]), one.actions
    assert import_isaac.main([str(tmp_path / "a.hdf5"), "--out", str(tmp_path / "imported")]) == 1
    assert advice in capsys.readouterr().err


def test_a_failed_evaluation_costs_no_training(tmp_path, fitted, dataset, tiny_fit, monkeypatch, capsys):
    def fails(*_, **__):
        raise RuntimeError("the disk is on fire")

    monkeypatch.setattr(fit_dynamics_script, "evaluate", fails)
    out = tmp_path / "model"
    assert fit_dynamics.main([f"--data={dataset.path}", f"--init={fitted}", f"--out={out}", *tiny_fit]) == 1
    assert "the disk is on fire" in capsys.readouterr().err
    assert WorldModel.load(out).verdict is not None
    assert (out / "curves.png").is_file()
    assert evaluate.main([f"--world-model={out}", f"--data={dataset.path}", f"--json={tmp_path / 'f.json'}"]) == 0
    assert json.loads((tmp_path / "f.json").read_text())["push_episodes"] == 1
