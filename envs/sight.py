"""Where are the markers, as far as the readout has seen? Positions and velocities, followed from frame to frame."""

from __future__ import annotations

import torch
from torch import Tensor

from ..perception import Perception
from ..perception.readout import Located
from ..worlds import Infos

PRESENT = 0.5  # probability above which a marker counts as seen


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
        self.positions = torch.zeros(num_envs, len(self.names), 2, device=perception.device)
        self.seen = torch.zeros(num_envs, len(self.names), dtype=torch.bool, device=perception.device)
        self._previous = self.positions

    def begin(self, latents: Tensor, slots: Tensor) -> None:
        """Begin anew in some environments (b,), with their two newest latents, older first, (b, 2, C, h, w)."""
        if not self.names:
            return
        nothing = self.positions.new_zeros(len(slots), len(self.names), 2)
        (first, second), (there, here) = (each.chunk(2) for each in self._find(latents.transpose(0, 1).flatten(0, 1)))
        first = torch.where(there.unsqueeze(-1), first, nothing)
        second = torch.where(here.unsqueeze(-1), second, first)
        previous = torch.where((there & here).unsqueeze(-1), first, second)
        self.positions = self.positions.index_copy(0, slots, second)
        self.seen = self.seen.index_copy(0, slots, here)
        self._previous = self._previous.index_copy(0, slots, previous)

    def look(self, latents: Tensor, located: Located | None = None) -> None:
        """Follow the markers of all environments into their next frames' latents (B, C, h, w).

        Args:
            latents: The newest.
            located: What is in them, if that is known already.
        """
        if self.names:
            found, seen = self._find(latents, located)
            now = torch.where(seen.unsqueeze(-1), found, self.positions)
            self._previous = torch.where((seen & self.seen).unsqueeze(-1), self.positions, now)
            self.positions, self.seen = now, seen

    def velocities(self) -> Tensor:
        """Of all environments' markers in m/s, (B, N, 2); zero for one that was not seen in both newest frames."""
        return (self.positions - self._previous) * self._perception.scene.control_hz

    def by_name(self) -> dict[str, Tensor]:
        """Positions of all environments by marker name, (B, 2) each, NaN where it is not seen."""
        positions = torch.where(self.seen.unsqueeze(-1), self.positions, torch.nan)
        return {name: positions[:, index] for index, name in enumerate(self.names)}

    def infos(self) -> Infos:
        """Positions of all environments as Gymnasium's infos; without the markers that are not seen."""
        found: Infos = {}
        for index, name in enumerate(self.names):
            key = f"{name}_position"
            found |= {key: self.positions[:, index].clone(), f"_{key}": self.seen[:, index].clone()}
        return found

    @torch.inference_mode()
    def _find(self, latents: Tensor, located: Located | None = None) -> tuple[Tensor, Tensor]:
        """Positions (B, N, 2), and whether they are seen (B, N)."""
        located = located or self._perception.locate(latents)
        found = located.positions
        return found, (located.presence > PRESENT) & found.isfinite().all(-1)  # a broken dream's NaN is not seen
