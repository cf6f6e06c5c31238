"""Which actions are taken? Those of the right shape, on the right device, finite and within the bounds."""

from __future__ import annotations

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import ArrayLike
from torch import Tensor

from ..borders import array_of, detached

_ADVICE = "clip it, and look for NaN in the policy"


class ActionCheck:
    """Checks actions of B environments.

    Args:
        space: Of one environment's actions.
        num_envs: B.
        device: Where they shall be.
    """

    def __init__(self, space: spaces.Box, num_envs: int, device: torch.device):
        self._low, self._high = (torch.tensor(bound, device=device) for bound in (space.low, space.high))
        self._space, self._shape, self._device = space, (num_envs, *space.shape), device

    def __call__(self, actions: ArrayLike | Tensor, ignored: Tensor | None = None) -> Tensor:
        """Actions (B, A) as float32 on the device, inside the bounds; arrays are looked at before they go there.

        Args:
            actions: Arrays of any layout, or a tensor on the device.
            ignored: Mask (B,) of environments whose actions do not count, whatever they are.

        Raises:
            ValueError: If the shape or device is another, or a value is not finite or out of bounds; names the
                environment.
        """
        given = isinstance(actions, Tensor)
        values = actions if isinstance(actions, Tensor) else torch.from_numpy(array_of(actions, "actions", np.float32))
        bounded, outside = self.bounded(values, on_host=not given)
        if ignored is not None:
            outside = outside & ~ignored.to(outside.device)
        if bool(outside.any()):
            index = int(outside.nonzero()[0])
            raise ValueError(
                f"the action of environment {index} is {values[index].tolist()}, which is not within the bounds "
                f"{self._space.low.tolist()} and {self._space.high.tolist()}; {_ADVICE}"
            )
        return bounded.to(self._device)

    def bounded(self, actions: Tensor, on_host: bool = False) -> tuple[Tensor, Tensor]:
        """Actions (B, A) inside the bounds, and which environments' were not, (B,): nothing is read on the host.

        Args:
            actions: On the device.
            on_host: They are still on the host instead.

        Raises:
            ValueError: If the shape or device is another.
        """
        low, high = (self._low.cpu(), self._high.cpu()) if on_host else (self._low, self._high)
        if actions.device.type != low.device.type:
            raise ValueError(f"expected actions on {low.device.type}, where the world model is, got {actions.device}")
        if actions.shape != self._shape:
            raise ValueError(f"expected actions of shape {self._shape}, got {tuple(actions.shape)}")
        values = detached(actions).float()
        inside = (values >= low - 1e-6) & (values <= high + 1e-6)  # NaN is on neither side
        bounded = torch.where(values.isfinite(), values, (low + high) / 2).clamp(low, high)
        return bounded.flatten(1), ~inside.flatten(1).all(dim=1)

    def refuse(self, outside: Tensor, steps: int) -> None:
        """Refuse what `bounded` let pass in the last so many steps, (B,).

        Raises:
            ValueError: If there was anything; names the environment.
        """
        if bool(outside.any()):
            index = int(outside.nonzero()[0])
            raise ValueError(
                f"an action of environment {index} in the last {steps} steps was not finite or not within the bounds "
                f"{self._space.low.tolist()} and {self._space.high.tolist()}; {_ADVICE}"
            )


class ChoiceCheck:
    """Checks discrete actions of B environments, which come out as one-hot vectors.

    Args:
        space: Of one environment's actions.
        num_envs: B.
        device: Where they shall be.
    """

    def __init__(self, space: spaces.Discrete, num_envs: int, device: torch.device):
        self._first, self._count = int(space.start), int(space.n)
        self._num_envs, self._device = num_envs, device

    def __call__(self, actions: ArrayLike | Tensor, ignored: Tensor | None = None) -> Tensor:
        """Choices (B,) as one-hots (B, n), float32.

        Args:
            actions: Arrays of whole numbers, or a tensor on the device.
            ignored: Mask (B,) of environments whose actions do not count, whatever they are.

        Raises:
            ValueError: If the shape or type is another, or there is no such choice; names the environment.
        """
        values = actions if isinstance(actions, Tensor) else torch.from_numpy(array_of(actions, "actions"))
        vectors, outside = self.bounded(values.to(self._device))
        if ignored is not None:
            outside = outside & ~ignored
        self._must_be_none(outside, values)
        return vectors

    def bounded(self, actions: Tensor) -> tuple[Tensor, Tensor]:
        """One-hots (B, n) of choices (B,), the nearest where there is none such, and of which environments, (B,).

        Raises:
            ValueError: If the shape or type is another.
        """
        if actions.shape != (self._num_envs,) or actions.is_floating_point() or actions.is_complex():
            raise ValueError(
                f"expected {self._num_envs} actions, whole numbers from {self._first} to "
                f"{self._first + self._count - 1}; got {str(actions.dtype).removeprefix('torch.')} of shape "
                f"{tuple(actions.shape)}"
            )
        choices = detached(actions).long() - self._first
        outside = (choices < 0) | (choices >= self._count)
        every = torch.arange(self._count, device=choices.device)
        return (choices.clamp(0, self._count - 1).unsqueeze(1) == every).float(), outside

    def refuse(self, outside: Tensor, steps: int) -> None:
        """Refuse what `bounded` let pass in the last so many steps, (B,).

        Raises:
            ValueError: If there was anything; names the environment.
        """
        if bool(outside.any()):
            raise ValueError(
                f"an action of environment {int(outside.nonzero()[0])} in the last {steps} steps was none of the "
                f"{self._count} choices from {self._first} on"
            )

    def _must_be_none(self, outside: Tensor, values: Tensor) -> None:
        if bool(outside.any()):
            index = int(outside.nonzero()[0])
            raise ValueError(
                f"the action of environment {index} is {values[index].item()}, which is none of the {self._count} "
                f"choices from {self._first} on"
            )


def one_action(action: ArrayLike | Tensor) -> ArrayLike | Tensor:
    """An action (A,) as those of a batch of one."""
    return action.unsqueeze(0) if isinstance(action, Tensor) else array_of(action, "action")[None]
