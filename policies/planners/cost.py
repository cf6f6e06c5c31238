"""What does a dreamed future cost?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...perception import Perception
from ...scene import Scene


@dataclass
class Imagined:
    """P dreamed futures of T steps.

    Attributes:
        latents: Normalised, (P, T, C, h, w).
        actions: In the scene's units, (P, T, A).
        positions: Where the readout sees the markers, (x, y) in metres, (P, T, N, 2); N is 0 without a readout.
        presence: Probability that they are there, (P, T, N).
        goal: Where the object shall go, (2,), or what a goal environment's twin shall reach, (G,); else meaningless.
        context: What all of them begin with, oldest first, (K, C, h, w).
    """

    latents: Tensor
    actions: Tensor
    positions: Tensor
    presence: Tensor
    goal: Tensor
    context: Tensor


Cost = Callable[[Imagined], Tensor]


class PushCost:
    """Metres from the object to its goal, and a little of those from the agent to where pushing begins.

    Both are averaged over the future and counted once more at its end. Pushing begins behind the object as seen from
    the goal: without this no short plan finds out that going around pays. A future that loses the object costs a metre.

    Args:
        scene: Whose agent it is about.
        standoff: Metres between the centres of object and agent where pushing begins.
        behind: Weight of the agent's distance from there.
    """

    def __init__(self, scene: Scene, standoff: float = 0.06, behind: float = 0.3):
        self._agent, self._standoff, self._behind = scene.agent_index, standoff, behind

    def __call__(self, imagined: Imagined) -> Tensor:
        """Costs (P,)."""
        subject = imagined.positions[:, :, 0]
        away = subject - imagined.goal
        distance = away.norm(dim=-1)
        cost = distance + (1 - imagined.presence[:, :, 0])
        if self._agent is not None:
            place = subject + self._standoff * away / distance.clamp(min=1e-6).unsqueeze(-1)
            cost = cost + self._behind * (imagined.positions[:, :, self._agent] - place).norm(dim=-1)
        return cost.mean(dim=1) + cost[:, -1]


class RewardCost:
    """Minus the rewards that a twin's heads foretell; after a foretold end nothing more is earned, or lost.

    Args:
        perception: With heads.
        of_end: What an end costs besides.

    Raises:
        ValueError: If there are no heads.
    """

    def __init__(self, perception: Perception, of_end: float = 0.0):
        if perception.heads is None:
            raise ValueError("the bundle has no heads that foretell rewards: pass a cost of the dreamed latents")
        self._perception, self._heads, self._of_end = perception, perception.heads, of_end

    def __call__(self, imagined: Imagined) -> Tensor:
        """Costs (P,)."""
        heads, (count, steps) = self._heads, imagined.latents.shape[:2]
        frames, begun = heads.config.frames, heads.remember(imagined.context.unsqueeze(0))
        embedded = heads.embed(imagined.latents.flatten(0, 1).float()).unflatten(0, (count, steps))
        memory = torch.cat([begun.expand(count, -1, -1), embedded], dim=1).unfold(1, frames, 1).transpose(2, 3)
        read = heads.observe(memory.flatten(0, 1)).unflatten(0, (count, steps + 1))
        actions = self._perception.scale_actions(imagined.actions).flatten(0, 1)
        before, now, known = (part.flatten(0, 1) for part in (read[:, :-1], read[:, 1:], memory[:, 1:]))
        goals = imagined.goal.to(actions.device).expand(len(actions), -1)
        judged = heads.judge(before, now, known, actions, goals)
        over = torch.sigmoid(judged.ends).unflatten(0, (count, steps))
        goes_on = torch.cat([torch.ones_like(over[:, :1]), (1 - over).cumprod(dim=1)], dim=1)
        rewards = judged.rewards.unflatten(0, (count, steps))
        return self._of_end * (1 - goes_on[:, -1]) - (rewards * goes_on[:, :-1]).sum(dim=1)


class GoalPictureCost:
    """How far a future's last latents are from a picture's: for goals that can be shown, and not said.

    Args:
        perception: Encodes the picture.
        picture: uint8 (H, W, 3), of the scene's size.
        last: How many of the last steps count.
    """

    def __init__(self, perception: Perception, picture: NDArray[np.uint8], last: int = 3):
        self._goal, self._last = perception.encode(np.asarray(picture)[None]), last

    def __call__(self, imagined: Imagined) -> Tensor:
        """Costs (P,): mean squares of the latents' differences, and a tenth of those along the way."""
        off = (imagined.latents - self._goal).square().mean(dim=(2, 3, 4))
        return off[:, -self._last :].mean(dim=1) + 0.1 * off.mean(dim=1)
