"""How does a killed training go on as if nothing had been? From the moment at which a rollout began, with all draws."""

from __future__ import annotations

import json
import random
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack, VecMonitor
from stable_baselines3.common.vec_env.base_vec_env import VecEnvWrapper
from torch import Tensor

from ..storage.weights import read_tensors, save_tensors
from .sb3 import DreamVecEnv

_NUMPY = "numpy type"
_COUNTS = ("num_timesteps", "_n_updates", "_episode_num")  # of the learner
_RECENT = ("ep_info_buffer", "ep_success_buffer")  # episodes that it reports of
_NOTED = ("name_to_value", "name_to_count", "name_to_excluded")  # by the logger, for its next row


def save_moment(path: Path, learner: BaseAlgorithm) -> None:
    """Write where a learner, its environments and all random numbers are, at the beginning of a rollout.

    Simulators have no such moment: with them only the learner's own part is written, and they begin anew.
    """
    env = learner.get_env()
    assert env is not None
    tensors = {f"env/{name}": tensor for name, tensor in _of_env(env)}
    tensors |= {f"last/{name}": torch.from_numpy(array.copy()) for name, array in _last(learner)} if tensors else {}
    drawn: dict[str, Any] = dict(np.random.get_state(legacy=False))  # noqa: NPY002 (Stable-Baselines3 draws from it)
    tensors["draws/torch"] = torch.get_rng_state()
    tensors["draws/numpy"] = torch.from_numpy(drawn["state"].pop("key").astype(np.int64))
    plain = {
        "numpy": drawn,
        "random": random.getstate(),
        "actions": learner.action_space.np_random.bit_generator.state,
        **{name: int(getattr(learner, name)) for name in _COUNTS},
        **{name: _plain(list(getattr(learner, name) or ())) for name in _RECENT},
        **{name: _plain(dict(getattr(learner.logger, name))) for name in _NOTED},
    }
    save_tensors(path, tensors, {"plain": json.dumps(plain)})


def return_to_moment(path: Path, learner: BaseAlgorithm) -> bool:
    """Let a learner with the same environments go on from where `save_moment` was called; its draws by `draw_as_then`.

    Returns:
        Whether the environments go on as well; if not, they begin anew.

    Raises:
        ValueError: If the file is damaged, or of another training.
    """
    tensors, metadata = read_tensors(path)
    plain = json.loads(metadata["plain"])
    for name in _COUNTS:
        setattr(learner, name, plain[name])
    for name in _RECENT:
        setattr(learner, name, deque(_as_it_was(plain[name]), maxlen=learner._stats_window_size))
    env = learner.get_env()
    assert env is not None
    _return_env(env, {name.removeprefix("env/"): value for name, value in tensors.items() if name.startswith("env/")})
    last = {name.removeprefix("last/"): value.numpy() for name, value in tensors.items() if name.startswith("last/")}
    if not last:
        return False
    starts = last.pop("starts", None)
    if starts is not None:
        learner._last_episode_starts = starts
    learner._last_obs = last.pop("", None) if "" in last else last  # type: ignore[assignment]
    return True


def draw_as_then(path: Path, learner: BaseAlgorithm) -> None:
    """Let all generators of random numbers, and the logger, go on from where `save_moment` was called."""
    tensors, metadata = read_tensors(path)
    plain = json.loads(metadata["plain"])
    torch.set_rng_state(tensors["draws/torch"])
    plain["numpy"]["state"]["key"] = tensors["draws/numpy"].numpy().astype(np.uint32)
    np.random.set_state(plain["numpy"])  # noqa: NPY002
    version, numbers, more = plain["random"]
    random.setstate((version, tuple(numbers), more))
    learner.action_space.np_random.bit_generator.state = plain["actions"]
    for name in _NOTED:
        getattr(learner.logger, name).update(_as_it_was(plain[name]))


def _layers(env: VecEnv) -> Iterator[VecEnv]:
    """The environments and the wrappers around them, from the outside."""
    yield env
    while isinstance(env, VecEnvWrapper):
        env = env.venv
        yield env


def _arrays(env: VecEnv) -> Iterator[tuple[str, Any]]:
    """What wrappers remember, by name; written into in place."""
    for layer in _layers(env):
        if isinstance(layer, VecMonitor):
            yield from (("returns", layer.episode_returns), ("lengths", layer.episode_lengths))
        elif isinstance(layer, VecFrameStack):
            yield "stack", layer.stacked_obs.stacked_obs


def _of_env(env: VecEnv) -> Iterator[tuple[str, Tensor]]:
    """What dreams and their wrappers remember; nothing for simulators."""
    *_, inner = _layers(env)
    if isinstance(inner, DreamVecEnv):
        yield from inner.env.get_state().items()
        yield from ((f"wrapper/{name}", torch.from_numpy(array.copy())) for name, array in _arrays(env))


def _return_env(env: VecEnv, moment: dict[str, Tensor]) -> None:
    *_, inner = _layers(env)
    if not moment or not isinstance(inner, DreamVecEnv):
        return
    inner.env.set_state({name: value for name, value in moment.items() if not name.startswith("wrapper/")})
    env.reset_infos = [{} for _ in range(env.num_envs)]
    for name, array in _arrays(env):
        array[...] = moment[f"wrapper/{name}"].numpy()


def _last(learner: BaseAlgorithm) -> Iterator[tuple[str, Any]]:
    """The last observations, by name or as "", and where episodes begin."""
    observed = learner._last_obs
    yield from observed.items() if isinstance(observed, dict) else [("", observed)]
    if learner._last_episode_starts is not None:
        yield "starts", learner._last_episode_starts


def _plain(entry: Any) -> Any:
    """Figures as JSON has them; NumPy's keep their types, since means of them are of these types."""
    if isinstance(entry, dict):
        return {key: _plain(value) for key, value in entry.items()}
    if isinstance(entry, list | tuple):
        return [_plain(value) for value in entry]
    return {_NUMPY: entry.dtype.str, "value": entry.item()} if isinstance(entry, np.generic) else entry


def _as_it_was(plain: Any) -> Any:
    """What `_plain` was given."""
    if isinstance(plain, dict) and _NUMPY in plain:
        return np.dtype(plain[_NUMPY]).type(plain["value"])
    if isinstance(plain, dict):
        return {key: _as_it_was(value) for key, value in plain.items()}
    return [_as_it_was(value) for value in plain] if isinstance(plain, list) else plain
