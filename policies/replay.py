"""How is a replay buffer kept? As arrays, of the rows that are filled: nothing in the file is a program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.buffers import ReplayBuffer

from ..storage.weights import read_tensors, save_tensors

_PLACE = ("pos", "full")  # where the next transition goes, and whether older ones are overwritten by now
_OF_EPISODES = "_current_ep_start"  # of hindsight: one entry an environment, not one a row


def save_buffer(path: Path, buffer: ReplayBuffer) -> None:
    """Write a buffer of Stable-Baselines3, whole or not at all.

    Raises:
        OSError: If there is no room.
    """
    arrays = _arrays(buffer)
    rows = buffer.buffer_size if buffer.full else buffer.pos
    kept = {name: array if name == _OF_EPISODES else array[:rows] for name, array in arrays.items()}
    kept |= {name: np.array(int(getattr(buffer, name))) for name in _PLACE}
    save_tensors(path, {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in kept.items()})


def load_buffer(path: Path, buffer: ReplayBuffer) -> None:
    """Fill a new buffer of the same shape with what `save_buffer` wrote.

    Raises:
        ValueError: If the file is damaged, or of a buffer of another shape.
    """
    kept, _ = read_tensors(path)
    arrays = _arrays(buffer)
    if kept.keys() != arrays.keys() | set(_PLACE):
        raise ValueError(f"{path} is of another kind of replay buffer")
    for name, array in arrays.items():
        part = kept[name].numpy()
        if part.shape[1:] != array.shape[1:] or len(part) > len(array) or part.dtype != array.dtype:
            raise ValueError(f"{path} is of a replay buffer of another shape: {name} is {part.dtype} {part.shape}")
        array[: len(part)] = part
    buffer.pos, buffer.full = int(kept["pos"]), bool(kept["full"])


def end_episodes(buffer: ReplayBuffer | None) -> None:
    """Let the episodes that were under way end where they were, because the environments begin anew."""
    if isinstance(buffer, HerReplayBuffer):  # only hindsight looks at episodes
        buffer.truncate_last_trajectory()


def _arrays(buffer: ReplayBuffer) -> dict[str, NDArray[Any]]:
    """All arrays of a buffer by name; those of its infos, which are objects, belong to no task of ours."""
    found: dict[str, NDArray[Any]] = {}
    for name, value in vars(buffer).items():
        parts = value.items() if isinstance(value, dict) else [(None, value)]
        for key, array in parts:
            if isinstance(array, np.ndarray) and array.dtype != object:
                found[name if key is None else f"{name}/{key}"] = array
    return found
