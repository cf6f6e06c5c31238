"""What is there to remember of dreams that are under way? Every tensor that a step changes."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ..borders import ours
from .dream_vector_env import DreamVectorEnv


@ours
def moment_of(env: DreamVectorEnv) -> dict[str, Tensor]:
    """Copies of what dreams remember, by name, on the host: with them `return_to` goes on exactly from here."""
    return {name: tensor.cpu().clone() for name, tensor in _remembered(env)}


@ours
def return_to(env: DreamVectorEnv, moment: dict[str, Tensor]) -> None:
    """Let dreams go on from a moment of as many dreams of the same bundle and options, without a reset.

    Raises:
        ValueError: If it is of other dreams.
    """
    own = dict(_remembered(env))
    if differing := [name for name in own.keys() | moment.keys() if not _alike(own.get(name), moment.get(name))]:
        raise ValueError(f"the moment is of other dreams: {sorted(differing)[0]} has another shape, or is missing")
    for name, tensor in own.items():
        tensor.copy_(moment[name])
    env._started = True


def _alike(one: Tensor | None, other: Tensor | None) -> bool:
    return one is not None and other is not None and one.shape == other.shape and one.dtype == other.dtype


def _remembered(env: DreamVectorEnv) -> Iterator[tuple[str, Tensor]]:
    """The tensors of environment, engine, task, and of what the task has seen; a step writes into these very ones."""
    parts: dict[str, object] = {"env": env, "engine": env.engine, "task": env.task}
    parts |= {f"task.{name}": value for name, value in vars(env.task).items() if name == "_sight"}
    for part, held in parts.items():
        for name, value in vars(held).items():
            if isinstance(value, torch.Tensor):
                yield f"{part}.{name}", value
