"""What are the toy inputs? A dataset, its perception, a bundle and an agent, and runs that were interrupted."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.resources import files
from pathlib import Path
from unittest import mock

import h5py
import numpy as np
import torch
import yaml

from cosmos_isaac_wm.data import Episode, write_dataset
from cosmos_isaac_wm.data import collection as collecting
from cosmos_isaac_wm.envs import DreamEnv
from cosmos_isaac_wm.executors import Here
from cosmos_isaac_wm.policies.agent import Agent, new_policy
from cosmos_isaac_wm.policies.transfer import BothWorlds, Played
from cosmos_isaac_wm.train import fit_dynamics, fit_tokenizer, train_agent, transfer
from cosmos_isaac_wm.world_model import WorldModel
from tests.campaigns.toys import DYNAMICS, PERCEPTION
from tests.conftest import TOY, toy_episode

STEPS = 16
PLAN = collecting.plan(4, "push", 0, STEPS)
TOKENIZER_FIT = (*PERCEPTION, "--fit.updates=4", "--readout.updates=4", "--device=cpu")
DYNAMICS_FIT = (*DYNAMICS, "--fit.updates=4", "--fit.validate_every=2", "--device=cpu")


def record(jobs: Sequence[collecting.Job]) -> Iterator[Episode]:
    """Toy episodes in place of a simulator's."""
    for job in jobs:
        yield toy_episode(TOY, job.seed, job.steps, job.kind)


def collect(out: Path) -> None:
    """Collect toy episodes, or go on with it."""
    collecting.collect(out, PLAN, record, TOY, {"simulator": "toy"}, Here(), split_seed=0)


def fit_tokenizer_argv(folder: Path) -> list[str]:
    """Of the perception that is fitted in a folder with the dataset beside it."""
    return [f"--data={folder / 'dataset'}", f"--out={folder / 'perception'}", *TOKENIZER_FIT]


def fit_dynamics_argv(folder: Path) -> list[str]:
    """Of the bundle that is fitted in a folder with dataset and perception beside it."""
    places = [f"--data={folder / 'dataset'}", f"--perception={folder / 'perception'}", f"--out={folder / 'bundle'}"]
    return [*places, *DYNAMICS_FIT, "--ship_episodes=1"]


def train_agent_argv(folder: Path, steps: int = 64) -> list[str]:
    """Of a training in a folder with the bundle beside it."""
    return [
        *(f"--out={folder / 'run'}", f"--world_model={folder / 'bundle'}", f"--timesteps={steps}", "--n_envs=4"),
        *("--eval_every=32", "--eval_episodes=2", "--checkpoint_every=32", "--despite_verdict"),
        *('--policy_kwargs={"net_arch": [8]}', '--hyperparameters={"n_steps": 8, "batch_size": 32, "n_epochs": 1}'),
    ]


def transfer_argv(folder: Path) -> list[str]:
    """Of a comparison in a folder with the bundle beside it."""
    return [
        *(f"--out={folder / 'played'}", f"--world_model={folder / 'bundle'}", '--policies=["random"]'),
        "--episodes=2",
    ]


def recording(path: Path) -> None:
    """A recording of Isaac Lab's RecorderManager: a cube that turns about the vertical while it wanders."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        for number in range(8):
            steps = 24
            yaw, pose = np.cumsum(rng.uniform(0.2, 0.6, steps)), np.zeros((steps, 7), np.float32)
            pose[:, :2] = np.cumsum(rng.normal(0, 0.01, (steps, 2)), axis=0)
            pose[:, 2], pose[:, 5], pose[:, 6] = 0.04, np.sin(yaw / 2), np.cos(yaw / 2)
            group = file.create_group(f"data/demo_{number}")
            group["obs/rgb"] = rng.integers(0, 255, (steps, 64, 64, 3), np.uint8)
            group["actions"] = rng.uniform(-1, 1, (steps, 2)).astype(np.float32)
            group["states/cube/root_pose"] = pose
            group.attrs["seed"] = number
        file.attrs["format_version"] = 1


def _run(main: Callable[[Sequence[str]], int], argv: Sequence[str]) -> None:
    """Run a command that has to end well."""
    if status := main(list(argv)):
        raise RuntimeError(f"{argv} ended with exit status {status}")


@contextmanager
def full_disk(where: str) -> Iterator[None]:
    """In here the disk is full at `where`, and what that leads to is nobody's error."""
    with mock.patch(where, side_effect=OSError(28, "No space left on device")), suppress(OSError):
        yield


@contextmanager
def no_simulator() -> Iterator[None]:
    """In here `transfer` plays nothing, and says that every episode succeeded."""

    def play(missing: Mapping[str, object], *others: object) -> None:
        *_, keep, _ = others
        assert callable(keep)
        for name in missing:
            episodes = Played([True] * 2, [1.0, 2.0], [0.02, 0.03], [9, 8])
            keep(name, BothWorlds(episodes, episodes, clear=episodes))

    names = ("RealEnv", "draw_starts", "_check", "film")
    with mock.patch.multiple(transfer, **dict.fromkeys(names, mock.DEFAULT), play_all=play):
        yield


def _agent(bundle: Path, folder: Path) -> None:
    """An untrained agent."""
    torch.manual_seed(0)
    env = DreamEnv(str(bundle))
    policy = new_policy("ppo", "MultiInputPolicy", {"net_arch": [8]}, env.observation_space, env.action_space)
    trained = {"env": "CosmosDream-v0", "world_model": WorldModel.load(bundle, "cpu").fingerprint(), "seed": 0}
    Agent(policy, "ppo", "MultiInputPolicy", {"net_arch": [8]}, {"obs_type": "pose"}, trained=trained).save(folder)


def make(folder: Path) -> None:
    """Make all of them; the last file says that they are complete."""
    splits = ["train"] * 8 + ["val", "val", "test", "test"]
    episodes = (toy_episode(TOY, seed, 30, ("push", "slide")[seed % 2]) for seed in range(12))
    write_dataset(folder / "dataset", episodes, TOY, splits)
    _run(fit_tokenizer.main, fit_tokenizer_argv(folder))
    _run(fit_dynamics.main, fit_dynamics_argv(folder))
    _agent(folder / "bundle", folder / "agent")
    recording(folder / "recording.hdf5")
    (folder / ".ready").write_text("")


def make_interrupted(inputs: Path, folder: Path) -> None:
    """Runs that were interrupted, and finished ones that are gone on with, each with what it needs beside it."""
    beside = {"fit": ("dataset", "perception"), "seen": ("dataset",), "trained": ("bundle",), "played": ("bundle",)}
    for name, needs in beside.items():
        for need in needs:
            shutil.copytree(inputs / need, folder / name / need)
    with full_disk("cosmos_isaac_wm.data.collection.write_dataset"):
        collect(folder / "collected")
    with full_disk("cosmos_isaac_wm.train.fit_tokenizer.fit_readout"):
        fit_tokenizer.main(fit_tokenizer_argv(folder / "seen"))
    with no_simulator():
        _run(transfer.main, transfer_argv(folder / "played"))
    _run(fit_dynamics.main, fit_dynamics_argv(folder / "fit"))
    shutil.rmtree(folder / "fit" / "bundle")
    _run(train_agent.main, train_agent_argv(folder / "trained"))
    for name in ("bundle", "agent", "dataset"):
        shutil.copytree(inputs / name, folder / name)
    _recipes(folder / "recipes")


def _recipes(folder: Path) -> None:
    """Options of commands, as YAML files; the command stands before the plus sign."""
    own: dict[str, dict[str, object]] = {
        "collect+": {"out": "o", "episodes": 3, "kind": "push", "explore": 0.5, "workers": 1, "size": 32},
        "import-isaac+": {"file": "f", "out": "o", "keys": {"frames": "a/b", "poses": {"cube": "c"}}, "hues": {}},
        "fit-tokenizer+": {"data": "d", "out": "o", "tokenizer": {"widths": [16, 16], "blocks": 1}, "fit": {"lr": 0.1}},
        "transfer+": {"out": "o", "policies": ["random"], "episodes": 3, "seed": 1},
        "improve+": {"data": "d", "out": "o", "rounds": 1, "algorithm": "ppo", "timesteps": None},
        "compare+": {"data": "d", "perception": "p", "systems": ["default"], "minutes_per_model": 0.1},
        "evaluate+": {"world_model": "default", "split": "test", "episodes": 3, "dtype": "float32"},
    }
    configs = files("cosmos_isaac_wm.configs")
    for name in ("default", "refresh", "probabilistic_plus", "ppo", "sac"):
        command = "train-agent" if name in ("ppo", "sac") else "fit-dynamics"
        own[f"{command}+{name}"] = {**yaml.safe_load(configs.joinpath(f"{name}.yaml").read_text()), "out": "o"}
        own[f"{command}+{name}"] |= {} if command == "train-agent" else {"data": ["d"]}
    folder.mkdir(parents=True)
    for name, options in own.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(options, sort_keys=False))


if __name__ == "__main__":
    make(Path(sys.argv[1]))
