"""What reads an input? The package's public entry points, each used as far as a user would; what they have read."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from cosmos_isaac_wm.data import EpisodeDataset
from cosmos_isaac_wm.envs import DreamVectorEnv
from cosmos_isaac_wm.policies.agent import Agent
from cosmos_isaac_wm.train import (
    collect,
    compare,
    evaluate,
    fit_dynamics,
    fit_tokenizer,
    import_isaac,
    improve,
    info,
    train_agent,
    transfer,
)
from cosmos_isaac_wm.world_model import WorldModel
from tests.campaigns import inputs

Read = Mapping[str, str]  # hashes of the arrays that were read, by what they belong to
_RECIPES = {
    "collect": (collect, "Collect"),
    "import-isaac": (import_isaac, "ImportIsaac"),
    "fit-tokenizer": (fit_tokenizer, "FitTokenizer"),
    "fit-dynamics": (fit_dynamics, "FitDynamics"),
    "train-agent": (train_agent, "TrainAgent"),
    "transfer": (transfer, "Transfer"),
    "improve": (improve, "Improve"),
    "compare": (compare, "Compare"),
    "evaluate": (evaluate, "Evaluate"),
}


class CommandFailed(Exception):
    """A command ended with an exit status; its text is what it said on stderr."""

    def __init__(self, status: int, said: str):
        super().__init__(said)
        self.status, self.said = status, said


def command(main: Callable[[Sequence[str]], int], argv: Sequence[str]) -> None:
    """Run a command in this process.

    Raises:
        CommandFailed: If it says that something is wrong. Other errors are not caught.
    """
    said = io.StringIO()
    status: int | str | None
    with redirect_stderr(said), redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            status = main(argv)
        except SystemExit as end:
            status = end.code
    if status:
        raise CommandFailed(int(status), said.getvalue())


def digest(arrays: Mapping[str, Any]) -> str:
    """A hash of arrays or tensors by name."""
    found = hashlib.sha256()
    for name, values in sorted(arrays.items()):
        array = np.ascontiguousarray(values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else values)
        found.update(f"{name} {array.dtype} {array.shape}".encode())
        found.update(array.tobytes())
    return found.hexdigest()


def _of_bundle(folder: Path) -> Read:
    model = WorldModel.load(folder, "cpu")
    names = ("latents", "positions", "states", "episodes", "starts")
    return {
        "weights": digest(model.state_dict()),
        "contexts": digest({name: getattr(model.contexts, name) for name in names}),
        "kinds": str(model.contexts.kinds),
    }


def bundle(folder: Path) -> Read:
    """Load a bundle, and dream a little in it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it has learned nothing, and says so
        env = DreamVectorEnv(2, world_model=str(folder))
        env.reset(seed=0)
        assert env.action_space.shape is not None
        for _ in range(2):
            env.step(np.zeros(env.action_space.shape, np.float32))
        env.close()
    return _of_bundle(folder)


def shown(main: Callable[[Sequence[str]], int], folder: Path) -> Read:
    """Let a command show a bundle."""
    command(main, ["--world-model", str(folder)])
    return _of_bundle(folder)


def agent(folder: Path) -> Read:
    """Load an agent, and let it act."""
    found = Agent.load(folder)
    found.predict(found.policy.observation_space.sample())
    return {"weights": digest(found.policy.state_dict())}


def dataset(folder: Path) -> Read:
    """Read all of a dataset."""
    found = EpisodeDataset(folder)
    scene, arrays = found.scene, dict(enumerate(found.actions))
    read: dict[str, Any] = {f"{number} actions": values for number, values in arrays.items()}
    for number, episode in enumerate(found.episodes(range(len(found)))):
        read |= {f"{number} frames": episode.frames, f"{number} played": episode.actions}
        read |= {f"{number} {name}": values for name, values in episode.positions.items()}
        read |= {f"{number} {name} info": values for name, values in episode.infos.items()}
        if scene.markers:
            episode.marker_positions(scene.marker_names)
    found.fingerprint()
    return {"arrays": digest(read)}


def recipe(file: Path) -> Read:
    """Let a command read its options from a file; it does nothing with them."""
    module, name = _RECIPES[file.name.partition("+")[0]]
    with mock.patch.object(getattr(module, name), "run", return_value={}):
        command(module.main, ["--config", str(file)])
    return {}


def collected(folder: Path) -> Read:
    """Go on with a collection."""
    inputs.collect(folder)
    return dataset(folder)


def fit(folder: Path) -> Read:
    """Go on with a fit of the dynamics."""
    command(fit_dynamics.main, inputs.fit_dynamics_argv(folder))
    return _of_bundle(folder / "bundle")


def seen(folder: Path) -> Read:
    """Go on with a fit of a perception."""
    command(fit_tokenizer.main, inputs.fit_tokenizer_argv(folder))
    return {}


def trained(folder: Path) -> Read:
    """Go on with the training of an agent: a finished one, and further."""
    command(train_agent.main, inputs.train_agent_argv(folder))
    read = agent(folder / "run")
    command(train_agent.main, inputs.train_agent_argv(folder, 96))
    return read


def played(folder: Path) -> Read:
    """Go on with a comparison in both worlds that is finished, without its simulator and its film."""
    with inputs.no_simulator():
        command(transfer.main, inputs.transfer_argv(folder))
    return {}


USES: dict[str, Callable[[Path], Read]] = {
    "bundle": bundle,
    "info": lambda folder: shown(info.main, folder),
    "evaluate": lambda folder: shown(evaluate.main, folder),
    "agent": agent,
    "dataset": dataset,
    "recipe": recipe,
    "collected": collected,
    "fit": fit,
    "seen": seen,
    "trained": trained,
    "played": played,
}


def read(target: str, folder: Path, file: Path) -> Read:
    """Use a target that lies in a folder, and of which one file may be wrong."""
    return USES[target](file if target == "recipe" else folder)
