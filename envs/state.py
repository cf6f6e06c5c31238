"""How are dreams forked and restored? By all that they go on from, as plain tensors with a row for each dream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray
from torch import Tensor

from ..borders import ours
from ..rollout import DreamEngine
from ..world_model import WorldModel
from ..worlds import Infos, Task
from .batches import for_all, masked, to_numpy

Slots = int | Sequence[int] | NDArray[np.integer[Any]] | Tensor
_OF_TASK = "task."


class WithState:
    """Gives a batch of dreams `get_state` and `set_state`."""

    world_model: WorldModel
    task: Task
    engine: DreamEngine
    num_envs: int
    to_torch: bool
    _keys: Tensor
    _episodes: Tensor
    _done: Tensor
    _started: bool

    @ours
    def get_state(self, slots: Slots | None = None) -> dict[str, Tensor]:
        """All that dreams go on from, to be kept, saved (`safetensors.torch.save_file`), and given to `set_state`.

        Args:
            slots: Which dreams, n indices; all when None.

        Returns:
            Copies on the model's device: "context", normalised latents (n, K, C, h, w), and "past", the scaled actions
            that led there, as far as the dynamics sees them, (n, H, A); "observed", what it is told, normalised,
            (n, D), where it is; "key" and "episode", (n,),
            which all random numbers follow from; "ended" (n,); "bundle" (n,), by which another bundle's state is
            recognised; and what the task remembers, as "task.steps" and "task.goals".

        Raises:
            ResetNeeded: Before the first `reset`.
            ValueError: If there is no such dream.
        """
        self.must_have_started()
        rows = self._rows_of(slots)
        return {name: value[rows] for name, value in self._remembered().items()}

    @ours
    def set_state(self, state: Mapping[str, Tensor], slots: Slots | None = None) -> tuple[Any, dict[str, Any]]:
        """Let dreams go on from a state: the same actions then lead to the same dreams, sampled noise included.

        A state of one dream may be given to many: it is forked. Give the forks other keys (`state["key"]`) where they
        shall sample other noise. A state of `DreamEnv` and one of a slot are the same.

        Args:
            state: Of `get_state`, of as many dreams as there are slots, or of one; of the same bundle and `obs_type`.
            slots: Which dreams shall go on from it, n indices; all when None.

        Returns:
            Observations and infos of all dreams, as `reset` has them.

        Raises:
            ValueError: If it is of another bundle, or of another number of dreams; nothing has changed then.
            ResetNeeded: Before the first `reset`, if only some dreams are given a state.
        """
        rows = self._rows_of(slots)
        if len(rows) < self.num_envs:
            self.must_have_started()
        given = self._checked(state, len(rows))
        self.engine.reset(given.pop("context"), rows, given.pop("past"))
        own = self._remembered()
        for name, value in given.items():
            own[name][rows] = value
        self._started = True
        chosen = torch.zeros_like(self._done).index_fill(0, rows, True)
        shown = self.task.observe(self.engine.newest), masked(self._infos(), chosen)
        return shown if self.to_torch else to_numpy(shown)

    def must_have_started(self) -> None:
        """Raise `ResetNeeded` before the first reset: there is nothing yet to go on from."""
        if not self._started:
            raise ResetNeeded("call reset() before the first step")

    def _infos(self) -> Infos:
        """Of all dreams as they are now."""
        return self.task.info() | for_all("dream_step", self.task.steps.clone())

    @cached_property
    def _bundle(self) -> int:
        """What the bundle's weights are known by."""
        return int(self.world_model.fingerprint()[:15], 16)

    def _remembered(self) -> dict[str, Tensor]:
        """What a step changes, a row for each dream; all but context and bundle are the very tensors it writes into."""
        bundle = torch.full_like(self._keys, self._bundle)
        own = {"context": self.engine.context, "past": self.engine.past, "key": self._keys}
        own |= {"observed": self.engine.observed} if self.engine.observed.shape[1] else {}
        own |= {"episode": self._episodes, "ended": self._done}
        return {**own, "bundle": bundle, **{_OF_TASK + name: value for name, value in self.task.remembered.items()}}

    def _rows_of(self, slots: Slots | None) -> Tensor:
        """Indices of dreams, (n,)."""
        if slots is None:
            return torch.arange(self.num_envs, device=self._keys.device)
        rows = torch.as_tensor(slots).flatten()
        if rows.dtype.is_floating_point or rows.dtype == torch.bool:
            raise ValueError(f"slots are indices of dreams, whole numbers; got {slots!r}")
        if ((rows < 0) | (rows >= self.num_envs)).any() or len(rows.unique()) < len(rows):
            raise ValueError(f"slots must be different indices from 0 to {self.num_envs - 1}, got {rows.tolist()}")
        return rows.long().to(self._keys.device)

    def _checked(self, state: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
        """The tensors of a state, on the model's device, for so many dreams."""
        own, given = self._remembered(), dict[str, Tensor]()
        if odd := own.keys() ^ state.keys():
            raise ValueError(f"not a state of such dreams: {sorted(odd)[0]!r} is missing or too much")
        for name, tensor in own.items():
            value = torch.as_tensor(state[name]).detach().to(tensor.device)
            if value.shape[1:] != tensor.shape[1:] or value.dtype != tensor.dtype or value.ndim != tensor.ndim:
                raise ValueError(
                    f"not a state of such dreams: {name!r} is {value.dtype} {tuple(value.shape)}, expected "
                    f"{tensor.dtype} (n, {', '.join(map(str, tensor.shape[1:]))})"
                )
            if len(value) not in (1, count):
                raise ValueError(f"{name!r} is of {len(value)} dreams, but {count} shall go on from it")
            given[name] = value.expand(count, *value.shape[1:])
        if (given["bundle"] != self._bundle).any():
            raise ValueError("the state is of another world model, whose latents mean something else")
        return given
