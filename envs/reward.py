"""What is a reward function of the user's own shown, and what must it return?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..borders import tensor_of
from .workspace import distance

# The terms of the "progress" reward; per metre, per step, and once at the end.
_OBJECT_PROGRESS, _AGENT_PROGRESS, _STEP_COST, _SUCCESS_BONUS, _LOSS = 20.0, 2.0, 0.02, 5.0, 5.0


@dataclass
class Outcome:
    """What a reward function of the user's own sees of one step of B environments.

    Attributes:
        latents: The newest latents, normalised, on the model's device, (B, C, h, w).
        actions: What led to them, in the scene's units, (B, A). This and what follows are arrays, or tensors on the
            model's device where the environment has `to_torch=True`.
        positions: (x, y) in metres by marker name, (B, 2) each, NaN where it is not seen; empty without a readout.
        previous_positions: The same, one step earlier.
        goals: Desired (x, y) of the object in metres, (B, 2), or None without a readout.
        decode: Latents to frames; `frames` calls it.
    """

    latents: Tensor
    actions: Any
    positions: dict[str, Any]
    previous_positions: dict[str, Any]
    goals: Any
    decode: Callable[[Tensor], Tensor]

    @cached_property
    def frames(self) -> NDArray[np.uint8]:
        """The newest pictures as the tokenizer draws them, uint8 (B, H, W, 3); decoded when first asked for."""
        frames: NDArray[np.uint8] = self.decode(self.latents).cpu().numpy()
        return frames


RewardFunction = Callable[[Outcome], Any]
NO_COMPUTE_REWARD = (
    'compute_reward needs obs_type="pose", no reward_fn and no reward_type="progress"; or the twin of a goal '
    'environment that is installed, obs_type="env" and no reward_fn'
)


def checked_rewards(value: Any, lost: Tensor) -> Tensor:
    """What a `reward_fn` returned, as float64 (B,).

    Args:
        value: A tensor or anything that NumPy takes.
        lost: Environments that can no longer be seen, (B,): they have no reward to speak of, and NaN counts as 0.

    Raises:
        ValueError: If it has another shape or is not finite.
    """
    rewards = tensor_of(value, "what reward_fn returned", torch.float64, lost.device)
    if rewards.shape != lost.shape:
        raise ValueError(
            f"reward_fn must return {len(lost)} numbers, one per environment; got shape {tuple(rewards.shape)}"
        )
    if not bool((rewards.isfinite() | lost).all()):
        raise ValueError(f"reward_fn returned {rewards.tolist()}; every reward must be finite")
    return torch.where(rewards.isfinite(), rewards, 0.0)


def progress_rewards(
    earlier: Tensor, now: Tensor, goals: Tensor, agent: int | None, succeeded: Tensor, left: Tensor
) -> Tensor:
    """How much nearer the object came to its goal, and the agent to the object, in one step: (B,), float64.

    Args:
        earlier: Where everything was, metres, (B, N, 2); the object is the first.
        now: Where everything is.
        goals: Of the object, (B, 2).
        agent: Which of the N it is; None where there is none.
        succeeded: Which objects are at their goals, (B,).
        left: Which have left the workspace, (B,).
    """

    def gained(apart: Callable[[Tensor], Tensor]) -> Tensor:
        return apart(earlier.double()) - apart(now.double())

    rewards = _OBJECT_PROGRESS * gained(lambda places: distance(places[:, 0], goals.double())) - _STEP_COST
    if agent is not None:
        rewards = rewards + _AGENT_PROGRESS * gained(lambda places: distance(places[:, agent], places[:, 0]))
    return rewards + _SUCCESS_BONUS * succeeded - _LOSS * left
