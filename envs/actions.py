"""Which actions are taken? Those of the right shape, on the right device, finite and within the bounds."""

from __future__ import annotations

import torch
from gymnasium import spaces
from numpy.typing import ArrayLike
from torch import Tensor

from .batches import as_tensor


class ActionCheck:
    """Checks actions of B environments.

    Args:
        space: Of one environment's actions.
        num_envs: B.
        device: Where they shall be.
    """

    def __init__(self, space: spaces.Box, num_envs: int, device: torch.device):
        self._low, self._high = (torch.tensor(bound, device=device) for bound in (space.low, space.high))
        self._shape, self._device = (num_envs, *space.shape), device

    def __call__(self, actions: ArrayLike | Tensor) -> Tensor:
        """Actions (B, A) as float32 on the device, inside the bounds.

        Raises:
            ValueError: If the shape or device is another, or a value is not finite or out of bounds; names the
                environment.
        """
        if not isinstance(actions, Tensor):
            values = as_tensor(actions, torch.float32, self._device)
        elif actions.device.type != self._device.type:
            raise ValueError(f"expected actions on {self._device.type}, where the world model is, got {actions.device}")
        else:
            values = actions.float()
        if values.shape != self._shape:
            raise ValueError(f"expected actions of shape {self._shape}, got {tuple(values.shape)}")
        inside = (values >= self._low - 1e-6) & (values <= self._high + 1e-6)  # NaN is on neither side
        if not bool(inside.all()):
            index = int((~inside.all(dim=1)).nonzero()[0])
            raise ValueError(
                f"the action of environment {index} is {values[index].tolist()}, which is not within the bounds "
                f"{self._low.tolist()} and {self._high.tolist()}; clip it, and look for NaN in the policy"
            )
        return values.clamp(self._low, self._high)
