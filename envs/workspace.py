"""Where can the object be? Goals lie inside the workspace; beyond its edge the object has left."""

from __future__ import annotations

from dataclasses import replace
from numbers import Real

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ..borders import tensor_of
from ..counter_rng import uniform
from ..scene import Scene

_CANDIDATES = 8  # goals that are drawn to take one: hardly ever are all of them at the object
EDGE = 0.05  # share of the workspace by which the object may be outside before it has left


class Workspace:
    """The rectangle that a scene's objects reach, in metres.

    Args:
        scene: Whose.
        device: Of the tensors.

    Attributes:
        diagonal: Its length.

    Raises:
        ValueError: If the scene does not say how large it is.
    """

    def __init__(self, scene: Scene, device: torch.device):
        if scene.workspace_low is None or scene.workspace_high is None:
            raise ValueError(f"the scene {scene.name!r} says nothing of its workspace, so it can have no goals")
        self._scene, self._device = scene, device
        low, high = (torch.from_numpy(np.array(end, np.float64)) for end in (scene.workspace_low, scene.workspace_high))
        edge = EDGE * (high - low)
        self._low, self._high = low.to(device), high.to(device)
        self._table = (low - edge).to(device), (high + edge).to(device)
        # Of observed positions: the workspace and a little more.
        self._seen = (low - 2 * edge).float().to(device), (high + 2 * edge).float().to(device)
        self.diagonal = float((high - low).norm())
        self._area = tuple(torch.tensor(end, device=device) for end in self.goal_area)

    @property
    def observed(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Least and greatest position in observations, (2,) each."""
        low, high = (end.cpu().numpy() for end in self._seen)
        return low, high

    def clamp(self, positions: Tensor) -> Tensor:
        """Positions (..., 2), kept within those of observations."""
        return positions.clamp(*self._seen)

    def left(self, positions: Tensor) -> Tensor:
        """Which of positions (..., 2) are beyond the workspace by more than the edge, (...)."""
        low, high = self._table
        return ((positions < low) | (positions > high)).any(-1)

    @property
    def goal_area(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Corners (x, y) of where goals are drawn: off the walls, so that the object can be pushed there."""
        low, high = np.array(self._scene.workspace_low), np.array(self._scene.workspace_high)
        margin = np.minimum(3 * self._scene.goal_radius, (high - low) / 4)
        return low + margin, high - margin

    def draw_goals(self, keys: Tensor, away_from: Tensor) -> Tensor:
        """A goal in the `goal_area` for each of B episodes that is no success yet, (B, 2).

        Args:
            keys: Of random numbers, (B,).
            away_from: Where the objects are, (B, 2).
        """
        low, high = self._area
        draws = uniform(keys.unsqueeze(1), torch.arange(2 * _CANDIDATES, device=self._device)).unflatten(1, (-1, 2))
        candidates = low + (high - low) * draws  # (B, candidates, 2)
        apart = distance(candidates, away_from.double().unsqueeze(1))
        far = apart >= 2 * self._scene.goal_radius
        # The first that is far enough; the farthest where none is.
        rank = torch.where(far, 1e3 - torch.arange(_CANDIDATES, dtype=apart.dtype, device=self._device), apart)
        best = rank.argmax(dim=1).view(-1, 1, 1).expand(-1, 1, 2)
        return candidates.gather(1, best).squeeze(1).float()

    def check_goals(self, goals: ArrayLike | Tensor, count: int) -> Tensor:
        """Goals (count, 2) from one (x, y) or `count` of them.

        Raises:
            ValueError: If they have another shape or lie outside.
        """
        values = tensor_of(goals, "goal", torch.float32, self._device)
        if values.shape not in ((2,), (count, 2)):
            raise ValueError(f"a goal is (x, y) in metres, one or {count} of them; got shape {tuple(values.shape)}")
        low, high = self._low, self._high
        if not bool(((values >= low.float()) & (values <= high.float())).all()):
            raise ValueError(
                f"goals must lie in the workspace from {low.tolist()} to {high.tolist()} metres, got {values.tolist()}"
            )
        return values.expand(count, 2)

    def mark(self, frames: NDArray[np.uint8], goals: Tensor) -> NDArray[np.uint8]:
        """Frames (B, H, W, 3) with a green ring of the goal radius around each goal (B, 2), where there is a camera."""
        scene = self._scene
        if scene.camera is None:
            return frames
        height, width = scene.image_size
        places = goals.cpu().numpy()
        centre = scene.to_pixels(places)
        rim = scene.to_pixels(places + np.array([scene.goal_radius, 0.0]))
        rows, columns = np.ogrid[:height, :width]
        off = np.hypot(columns - centre[:, :1, None], rows - centre[:, 1:, None])  # (B, H, W)
        ring = np.abs(off - (rim - centre)[:, :1, None]) < max(0.75, height / 128)
        return np.where(ring[..., None], np.array([30, 200, 60], np.uint8), frames)


def distance(achieved: Tensor, desired: Tensor) -> Tensor:
    """Metres between (..., 2) and (..., 2), the same to the last bit for one and for many."""
    across, along = (achieved - desired).unbind(-1)
    return (across * across + along * along).sqrt()


def with_goals_of(scene: Scene, radius: float | None) -> Scene:
    """The scene, with goals of another radius in metres.

    Raises:
        ValueError: If it is none.
    """
    if radius is None:
        return scene
    if not isinstance(radius, Real) or not 0 < radius < np.inf:
        raise ValueError(f"goal_radius must be a positive number of metres, got {radius!r}")
    return replace(scene, goal_radius=float(radius))
