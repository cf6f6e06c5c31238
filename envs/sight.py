"""Where the markers are, as far as the readout has seen: positions and velocities followed from frame to frame."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..perception import Perception

PRESENT = 0.5  # probability above which a marker counts as seen

Slots = slice | NDArray[np.int64]


class Sight:
    """The markers of B environments. One that is not seen stays where it was; one that never was is at zero.

    Args:
        perception: Scene and readout; without a readout there are no markers.
        num_envs: B.

    Attributes:
        positions: Where each marker was last seen, (x, y) in metres, (B, N, 2).
        seen: Whether it is in the newest frame, (B, N).
    """

    def __init__(self, perception: Perception, num_envs: int):
        self._perception = perception
        self.names = perception.scene.marker_names if perception.readout is not None else ()
        self.positions = np.zeros((num_envs, len(self.names), 2), np.float32)
        self.seen = np.zeros((num_envs, len(self.names)), bool)
        self._previous = self.positions.copy()

    def forget(self, slots: Slots) -> None:
        """Begin anew in some environments."""
        self.positions[slots], self.seen[slots] = 0.0, False

    def look(self, latents: Tensor, slots: Slots = slice(None)) -> None:
        """Follow the markers of some environments into their next frames' latents (b, C, h, w)."""
        if not self.names:
            return
        with torch.inference_mode():
            located = self._perception.locate(latents)
            # One copy from the device for both.
            read = torch.cat([located.positions, located.presence.unsqueeze(-1)], dim=-1).float().cpu().numpy()
        seen = (read[..., 2] > PRESENT) & np.isfinite(read).all(-1)  # a broken dream's NaN is not seen
        positions = np.where(seen[..., None], read[..., :2], self.positions[slots])
        self._previous[slots] = np.where((seen & self.seen[slots])[..., None], self.positions[slots], positions)
        self.positions[slots], self.seen[slots] = positions, seen

    def velocities(self, slots: Slots = slice(None)) -> NDArray[np.float32]:
        """Of some environments' markers in m/s, (b, N, 2); zero for one that was not seen in both newest frames."""
        return (self.positions[slots] - self._previous[slots]) * np.float32(self._perception.scene.control_hz)

    def by_name(self) -> dict[str, NDArray[np.float32]]:
        """Positions of all environments by marker name, (B, 2) each, NaN where it is not seen."""
        positions = np.where(self.seen[..., None], self.positions, np.float32(np.nan))
        return {name: positions[:, index] for index, name in enumerate(self.names)}
