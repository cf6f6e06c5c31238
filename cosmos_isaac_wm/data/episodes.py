"""What is an episode? Frames and actions, with positions, states and headings where they are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..scene import Scene


@dataclass(frozen=True)
class Episode:
    """One recorded episode of T + 1 frames and T actions.

    Attributes:
        frames: RGB pictures, uint8 (T + 1, H, W, 3).
        actions: `actions[t]` leads from frame t to frame t + 1, float32 (T, A).
        kind: What sort of episode it is, for example "push" or "slide".
        seed: Seed it was collected with, or -1.
        positions: (x, y) in metres by marker name, float32 (T + 1, 2); a marker absent from the scene has no entry.
        infos: Further arrays with a first axis of T + 1, for example "state", or "<marker>_pose" as (x, y, z, qw, qx,
            qy, qz), from which a stored episode's headings are read.
        rewards: Of every action, (T,), where they were recorded.
        terminations: Whether the episode was over by itself after each action, (T,), where that was recorded.
        truncations: Whether it was cut off there, (T,), where that was recorded.
        observations: What else than the picture was observed, by its key, with a first axis of T + 1.
        headings: Angle about the vertical in radians by marker name, float32 (T + 1,), where it is known; stored as
            "<marker>_heading" where there is no pose.
    """

    frames: NDArray[np.uint8]
    actions: NDArray[np.float32]
    kind: str = "episode"
    seed: int = -1
    positions: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    infos: dict[str, NDArray[Any]] = field(default_factory=dict)
    headings: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    rewards: NDArray[np.float64] | None = None
    terminations: NDArray[np.bool_] | None = None
    truncations: NDArray[np.bool_] | None = None
    observations: dict[str, NDArray[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.actions)

    def marker_positions(self, names: Sequence[str]) -> NDArray[np.float32]:
        """Positions (T + 1, N, 2) of the named markers in metres, NaN where a marker is absent."""
        positions = np.full((len(self.frames), len(names), 2), np.nan, dtype=np.float32)
        for index, name in enumerate(names):
            if name in self.positions:
                positions[:, index] = self.positions[name]
        return positions

    def marker_headings(self, scene: Scene) -> NDArray[np.float32]:
        """Headings (T + 1, N, 2) of the scene's markers: cosine and sine of `symmetry` x angle, NaN if unknown."""
        headings = np.full((len(self.frames), len(scene.markers), 2), np.nan, dtype=np.float32)
        for index, marker in enumerate(scene.markers):
            if marker.symmetry and marker.name in self.headings:
                angle = marker.symmetry * self.headings[marker.name]
                headings[:, index] = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
        return headings


class DatasetError(ValueError):
    """A dataset is missing, damaged, or lacks what was asked of it."""
