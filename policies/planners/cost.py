"""What does a dreamed future cost?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ...scene import Scene


@dataclass
class Imagined:
    """P dreamed futures of T steps.

    Attributes:
        latents: Normalised, (P, T, C, h, w).
        actions: In the scene's units, (P, T, A).
        positions: Where the readout sees the markers, (x, y) in metres, (P, T, N, 2); N is 0 without a readout.
        presence: Probability that they are there, (P, T, N).
        goal: Where the object shall go, (2,); meaningless without a readout.
    """

    latents: Tensor
    actions: Tensor
    positions: Tensor
    presence: Tensor
    goal: Tensor


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
