"""Which task is a bundle's? The twin's where it is of a foreign environment, else that of bringing objects to goals."""

from __future__ import annotations

import difflib
from typing import Any

import torch
from torch import Tensor

from ..error_bound import read_of
from ..perception import Perception
from ..perception.readout import Located
from ..world_model import WorldModel
from ..worlds import Glimpse, Task
from .table_task import TableOptions, TableTask
from .trust import Trusting, TrustOptions
from .twin_task import TwinOptions, TwinTask

_GOAL_RADII = 2.0  # of the table's goal: whoever may be farther off cannot say whether it was reached
_STDS = 1.0  # of an observation
_AT_ONCE = 64  # contexts that are looked at together


class _TrustedTableTask(Trusting, TableTask):
    """The table's task, with a bound of the object's position."""

    def _read_first(self, latents: Tensor, seen: Glimpse) -> Tensor:
        return torch.cat([read_of(self.perception.locate(part[:, -1])) for part in latents.split(_AT_ONCE)])

    def _read_now(self, latents: Tensor, located: Located | None) -> Tensor:
        return read_of(located or self.perception.locate(latents))

    def _in_units(self, bounds: Tensor) -> Tensor:
        return bounds[:, 0].clone()


class _TrustedTwinTask(Trusting, TwinTask):
    """A twin's task, with a bound of every component of its observation."""

    def _read_first(self, latents: Tensor, seen: Glimpse) -> Tensor:
        return seen.parts[1]

    def _read_now(self, latents: Tensor, located: Located | None) -> Tensor:
        return self.read

    def _in_units(self, bounds: Tensor) -> Tensor:
        return bounds * self._heads.std[: bounds.shape[1]]


def dream_task(world_model: WorldModel, num_envs: int, to_torch: bool, kind: str | None, **options: Any) -> Task:
    """The task of B dreams, which says how far they may be off where the bundle has learned that.

    Args:
        world_model: The bundle.
        num_envs: B.
        to_torch: As of `new_task`.
        kind: Of episodes that the dreams begin like.
        options: As of `new_task`, and `TrustOptions`.

    Raises:
        TypeError: If there is no such option.
        ValueError: If an option is impossible, or the bundle does not support it.
    """
    asked = {name: options.pop(name) for name in TrustOptions.__annotations__ if name in options}
    perception, bound = world_model.perception, world_model.error_bound
    task = new_task(perception, num_envs, to_torch, trusted=bound is not None, **options)
    if isinstance(task, Trusting) and bound is not None:
        task.begin_trusting(bound, kind, most_trusted(perception), **asked)
    elif asked and asked != {"trust": "report"}:
        raise ValueError(
            f"{asked} asked, but the bundle does not know how far its dreams may be off: fit-dynamics "
            "learns that where there are enough validation episodes"
        )
    return task


def most_trusted(perception: Perception) -> float:
    """How far a dream may be off and still says something: metres, or standard deviations of a twin's observation."""
    return _STDS if perception.heads is not None else _GOAL_RADII * perception.scene.goal_radius


def new_task(
    perception: Perception, num_envs: int = 1, to_torch: bool = False, trusted: bool = False, **options: Any
) -> Task:
    """The task of B environments.

    Args:
        perception: Of the bundle.
        num_envs: B.
        to_torch: Show the user's functions tensors instead of arrays.
        trusted: As `dream_task` makes it.
        options: The task's own, as of `TableOptions` or `TwinOptions`.

    Raises:
        TypeError: If there is no such option.
        ValueError: If an option is impossible, or the bundle does not support it.
    """
    twin = perception.scene.environment is not None and perception.heads is not None
    known = sorted({*(TwinOptions if twin else TableOptions).__annotations__} - {*TrustOptions.__annotations__})
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the options of the task are {known}"
            raise TypeError(f"unexpected keyword argument {name!r}; {hint}")
    if twin:
        return (_TrustedTwinTask if trusted else TwinTask)(perception, num_envs, to_torch=to_torch, **options)
    return (_TrustedTableTask if trusted else TableTask)(perception, num_envs, to_torch=to_torch, **options)
