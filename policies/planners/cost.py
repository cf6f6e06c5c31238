"""What does a dreamed future cost?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...error_bound import ErrorBound, read_of
from ...perception import Perception
from ...perception.readout import Located
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
        past: The scaled actions that led there, as far as the dynamics sees them, (H, A).
    """

    latents: Tensor
    actions: Tensor
    positions: Tensor
    presence: Tensor
    goal: Tensor
    context: Tensor
    past: Tensor


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


def read_along(perception: Perception, imagined: Imagined) -> tuple[Tensor, Tensor]:
    """Normalised observations before the first step and after each, (P, T + 1, D), and what they are read from."""
    heads, (count, steps) = perception.heads, imagined.latents.shape[:2]
    assert heads is not None
    begun = heads.remember(imagined.context.unsqueeze(0), imagined.past.unsqueeze(0)).expand(count, -1, -1)
    scaled = perception.scale_actions(imagined.actions)
    seen = heads.embed(imagined.latents.flatten(0, 1).float(), scaled.flatten(0, 1)).unflatten(0, (count, steps))
    memory = torch.stack([begun, *heads.along(begun, seen, scaled)], dim=1)
    return heads.observe(memory.flatten(0, 1)).unflatten(0, (count, steps + 1)), memory


def doubt(perception: Perception, bound: ErrorBound, imagined: Imagined) -> Tensor:
    """How far futures may be off on average over their steps, in metres or standard deviations, (P,).

    Args:
        perception: Of the bundle; reads what the bound is shown.
        bound: The bundle's, of its widest kind.
        imagined: The futures.
    """
    count, steps = imagined.latents.shape[:2]
    if perception.heads is not None:
        seen, _ = read_along(perception, imagined)
    else:
        begun = perception.locate(imagined.context[-1:])
        first = read_of(begun).expand(count, -1).unsqueeze(1)
        along = Located(imagined.positions.flatten(0, 1), imagined.presence.flatten(0, 1))
        seen = torch.cat([first, read_of(along).unflatten(0, (count, steps))], dim=1)
    estimates = bound.along(seen, perception.scale_actions(imagined.actions), bound.number(None))
    return bound.factor(None) * estimates.amax(dim=2).mean(dim=1)


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
        read, memory = read_along(self._perception, imagined)
        actions = self._perception.scale_actions(imagined.actions).flatten(0, 1)
        before, now, known = (part.flatten(0, 1) for part in (read[:, :-1], read[:, 1:], memory[:, 1:]))
        goals = imagined.goal.to(actions.device).expand(len(actions), -1)
        judged = heads.judge(before, now, known, actions, goals)
        over = torch.sigmoid(judged.ends).unflatten(0, (count, steps))
        goes_on = torch.cat([torch.ones_like(over[:, :1]), (1 - over).cumprod(dim=1)], dim=1)
        rewards = judged.rewards.unflatten(0, (count, steps))
        return self._of_end * (1 - goes_on[:, -1]) - (rewards * goes_on[:, :-1]).sum(dim=1)


class GoalStateCost:
    """How far what a twin's heads read at a future's end is from what they read in a picture, as if all rested there.

    Args:
        perception: With heads.
        picture: uint8 (H, W, 3), of the scene's size.
        weights: Of every component of the observation, (D,), counted in its standard deviations; all 1 when None.
        last: How many of the last steps count; a tenth of it all steps.

    Raises:
        ValueError: If there are no heads that read anything.
    """

    def __init__(
        self,
        perception: Perception,
        picture: NDArray[np.uint8],
        weights: NDArray[np.float32] | None = None,
        last: int = 3,
    ):
        if perception.heads is None or not perception.heads.config.observed:
            raise ValueError("the bundle has no heads that read an observation: use GoalPictureCost")
        self._perception, self._heads, self._last = perception, perception.heads, last
        self._goal = self._heads.observe(self._heads.remember(perception.encode(np.asarray(picture)[None])[None]))
        ones = np.ones(self._heads.config.observed, np.float32)
        self._weights = torch.from_numpy(ones if weights is None else np.asarray(weights, np.float32)).to(self._goal)
        if self._weights.shape != self._goal.shape[1:]:
            raise ValueError(f"expected {self._goal.shape[1]} weights, got {tuple(self._weights.shape)}")

    def __call__(self, imagined: Imagined) -> Tensor:
        """Costs (P,)."""
        read, _ = read_along(self._perception, imagined)
        off = ((read[:, 1:] - self._goal).abs() * self._weights).sum(dim=2) / self._weights.sum()
        return off[:, -self._last :].mean(dim=1) + 0.1 * off.mean(dim=1)


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
