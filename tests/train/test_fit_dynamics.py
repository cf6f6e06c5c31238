"""fit-dynamics end to end, on the toy world and on a dataset that is not ours in shape."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
import torch

from cosmos_isaac_wm.data import Episode, EpisodeDataset, write_dataset
from cosmos_isaac_wm.perception import Perception
from cosmos_isaac_wm.reporting.replay import DreamRecorder
from cosmos_isaac_wm.scene import Marker, Scene
from cosmos_isaac_wm.train import cli, fit_dynamics, fit_tokenizer
from cosmos_isaac_wm.world_model import WorldModel


def test_fitting_writes_a_complete_bundle(fitted):
    model = WorldModel.load(fitted)
    assert len(model.contexts) == 6
    assert len(model.held_out()) == 1
    assert model.metrics["push_episodes"] == 1
    assert model.provenance["best_update"] in (6, 12)
    assert (fitted / "curves.png").stat().st_size > 1000
    assert "push_cube_rmse_px512" in (fitted / "README.md").read_text()


def test_a_refresh_continues_from_a_bundle_and_leaves_it_alone(fitted, dataset, tmp_path, tiny_fit):
    before = {path.name: path.read_bytes() for path in fitted.iterdir() if path.is_file()}
    arguments = [f'--data=["{dataset.path}"]', f"--init={fitted}", f"--out={tmp_path / 'new'}", *tiny_fit]
    assert fit_dynamics.main([*arguments, f"--json={tmp_path / 'new.json'}"]) == 0
    assert {path.name: path.read_bytes() for path in fitted.iterdir() if path.is_file()} == before
    assert WorldModel.load(tmp_path / "new").provenance["init"] == str(fitted)
    numbers = json.loads((tmp_path / "new.json").read_text())
    assert all(isinstance(value, int | float) for value in numbers.values())


def test_a_refresh_takes_another_perception_of_the_same_latents_only(
    fitted, second_look, dataset, tmp_path, capsys, tiny_fit
):
    arguments = [f'--data=["{dataset.path}"]', f"--init={fitted}", *tiny_fit]
    assert fit_dynamics.main([*arguments, f"--perception={second_look}", f"--out={tmp_path / 'new'}"]) == 0
    kept, wanted = WorldModel.load(tmp_path / "new").perception.readout, Perception.load(second_look).readout
    assert torch.equal(kept.features[0].weight, wanted.features[0].weight)
    other = tmp_path / "other"
    shutil.copytree(second_look, other)
    perception = Perception.load(other)
    perception.mean += 1.0
    perception.save(other)
    assert fit_dynamics.main([*arguments, f"--perception={other}", f"--out={tmp_path / 'x'}"]) == 1
    assert "fit-tokenizer --init" in capsys.readouterr().err


def test_an_error_bound_is_learned_from_what_the_dynamics_has_not_seen(
    fitted, dataset, tmp_path, tiny_fit, monkeypatch, capsys
):
    shown = []
    monkeypatch.setattr(fit_dynamics, "fit_error_bound", lambda network, sight, train, val, *rest: shown.append(train))
    unseen, episode = tmp_path / "unseen", dataset[0]
    episodes = [dataclasses.replace(episode, seed=seed) for seed in range(20)]
    write_dataset(unseen, episodes, dataset.scene, ["train"] * 17 + ["val"] * 3)
    arguments = [f'--data=["{dataset.path}"]', f"--init={fitted}", *tiny_fit]
    assert fit_dynamics.main([*arguments, f"--bound_data={unseen}", f"--out={tmp_path / 'new'}"]) == 0
    assert len(shown[0]) == 17
    write_dataset(tmp_path / "other", episodes, dataclasses.replace(dataset.scene, control_hz=7.0), ["train"] * 20)
    assert fit_dynamics.main([*arguments, f"--bound_data={tmp_path / 'other'}", f"--out={tmp_path / 'x'}"]) == 1
    assert "has control_hz 7.0" in capsys.readouterr().err
    assert not (tmp_path / "x.fit").exists()


def test_fitting_never_overwrites_a_bundle(fitted, dataset, capsys, tiny_fit):
    before = {path.name: path.read_bytes() for path in fitted.iterdir() if path.is_file()}
    assert fit_dynamics.main([f'--data=["{dataset.path}"]', f"--init={fitted}", f"--out={fitted}", *tiny_fit]) == 1
    assert "holds another fit (init None instead of" in capsys.readouterr().err
    strange = fitted.parent / "strange"
    shutil.copytree(fitted, strange)
    assert fit_dynamics.main([f'--data=["{dataset.path}"]', f"--init={fitted}", f"--out={strange}", *tiny_fit]) == 1
    assert "never overwritten" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in fitted.iterdir() if path.is_file()} == before


def test_either_a_perception_or_a_bundle_is_needed(dataset, tmp_path, capsys):
    assert fit_dynamics.main([f'--data=["{dataset.path}"]', f"--out={tmp_path / 'x'}"]) == 1
    assert "--perception" in capsys.readouterr().err


# Other people's data: 96x96 frames, three action dimensions with other bounds, a green puck, 5 Hz.
PUCK = Scene(
    name="air-hockey",
    control_hz=5.0,
    image_size=(96, 96),
    action_low=(-2.0, 0.0, -1.0),
    action_high=(2.0, 5.0, 1.0),
    markers=(Marker("puck", hue=(90.0, 150.0)),),
    workspace_low=(0.0, 0.0),
    workspace_high=(2.0, 1.0),
    goal_radius=0.1,
    episode_steps=10,
)
BLIND = dataclasses.replace(PUCK, name="blind", workspace_low=None, workspace_high=None)  # a colour, no positions


def puck_episode(seed: int, with_positions: bool) -> Episode:
    rng = np.random.default_rng(seed)
    track = (rng.uniform(0.3, 0.7, 2) + np.linspace(0, 1, 16)[:, None] * rng.uniform(-0.2, 0.5, 2)).clip(0.1, 0.9)
    frames = np.full((16, 96, 96, 3), 200, np.uint8)
    for frame, (column, row) in zip(frames, (track * [47, 90]).astype(int), strict=True):
        frame[row : row + 12, column : column + 12] = (20, 200, 30)
    actions = rng.uniform(PUCK.action_low, PUCK.action_high, (15, 3)).astype(np.float32)
    return Episode(frames, actions, "serve", seed, {"puck": track.astype(np.float32)} if with_positions else {})


@pytest.mark.parametrize("with_positions", [True, False])
def test_other_peoples_data_becomes_a_steppable_dream(tmp_path, with_positions, fit):
    scene, splits = (PUCK if with_positions else BLIND), ["train"] * 4 + ["val", "test"]
    write_dataset(tmp_path / "data", (puck_episode(seed, with_positions) for seed in range(6)), scene, splits)
    bundle = fit(tmp_path / "data", tmp_path)
    bright = lambda view: view.frames.mean(axis=(1, 2, 3)) / 255  # noqa: E731  (the user's own reward)
    make = {"world_model": str(bundle), "obs_type": "latent", "reward_fn": bright}
    env = gym.make("cosmos_isaac_wm:CosmosDream-v0", **make)
    assert env.action_space.shape == (3,)
    np.testing.assert_array_equal(env.action_space.high, np.float32(scene.action_high))
    env.reset(seed=0)
    *_, reward, _terminated, _truncated, _info = env.step(env.action_space.sample())
    assert 0 < reward < 1
    episode = EpisodeDataset(tmp_path / "data")[5]
    recorder = DreamRecorder(env, episode, tmp_path / "log")
    recorder.replay()
    rows = (tmp_path / "log" / "cube_positions.csv").read_text().splitlines()
    assert len(rows) == 1 + len(episode) - 3  # four context frames, then one row a step
    assert (WorldModel.load(bundle).perception.readout is not None) == with_positions


def test_a_budget_too_short_for_a_validation_is_one_line(fitted, dataset, tmp_path, capsys, tiny_fit):
    arguments = [f"--data={dataset.path}", f"--init={fitted}", f"--out={tmp_path / 'new'}", *tiny_fit]
    assert fit_dynamics.main([*arguments, "--fit.minutes=0.00001"]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert "cosmos-wm fit-dynamics: --fit.minutes 1e-05 is too short: a single validation takes" in said
    assert fit_dynamics.main([*arguments, "--fit.minutes=0.05", "--fit.updates=1000000"]) == 0
    assert 0.03 < WorldModel.load(tmp_path / "new").provenance["minutes"] < 0.08


@pytest.mark.parametrize(
    "launcher",
    [
        ["torch.distributed.run", "--standalone", "--nproc_per_node=2"],
        ["accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--main_process_port=0"],
    ],
)
def test_two_processes_make_one_bundle(dataset, tmp_path, tiny_perception, tiny_fit, launcher):
    def launched(module, *arguments):
        command = [sys.executable, "-m", *launcher, "-m", f"cosmos_isaac_wm.train.{module}", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    eyes, bundle = tmp_path / "perception", tmp_path / "bundle"
    if "torch" in launcher[0]:
        said = launched("fit_tokenizer", f"--data={dataset.path}", f"--out={eyes}", *tiny_perception)
        assert said.count("perception in") == 1
    else:
        assert fit_tokenizer.main([f"--data={dataset.path}", f"--out={eyes}", *tiny_perception]) == 0
    more = ["--dynamics.width=16", "--dynamics.blocks=1", f"--json={tmp_path / 'out.json'}"]
    arguments = [f"--data={dataset.path}", f"--perception={eyes}", f"--out={bundle}", *tiny_fit, *more]
    assert launched("fit_dynamics", *arguments).count("bundle in") == 1
    assert WorldModel.load(bundle).provenance["best_update"] in (6, 12)
    assert json.loads((tmp_path / "out.json").read_text()).keys() == WorldModel.load(bundle).metrics.keys()


@pytest.mark.parametrize(
    ("name", "rollouts"),
    [
        ("default.yaml", [1, 2, 4, 4, 8, 8]),
        ("refresh.yaml", [1, 2, 4, 8]),
        ("seed.yaml", [4]),
        ("resnet_rollout.yaml", [4]),
        ("probabilistic_plus.yaml", [1]),
        ("rollout.yaml", [4]),
        ("sharp_shooter.yaml", [1]),
    ],
)
def test_the_shipped_recipes_are_understood(name, rollouts):
    parser = cli.parser_for(fit_dynamics.FitDynamics, "fit-dynamics", "default.yaml")
    arguments = parser.parse_args(cli._expand(["--config", name, "--data", "[table]", "--out", "bundle"]))
    fit = parser.instantiate(arguments).fit
    assert [stage.rollout for stage in fit.stages] == rollouts
    assert fit.updates + fit.epochs > 0
