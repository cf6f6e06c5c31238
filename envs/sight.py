"""Where are the markers, as far as the readout has seen? Positions and velocities, followed from frame to frame."""

from __future__ import annotations

import torch
from torch import Tensor

from ..perception import Perception
from ..perception.readout import PRESENT, Located
from ..worlds import Glimpse, Infos


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
        self.positions = torch.zeros(num_envs, len(self.names), 2, dtype=torch.float32, device=perception.device)
        self.seen = torch.zeros(num_envs, len(self.names), dtype=torch.bool, device=perception.device)
        self._previous = torch.zeros_like(self.positions)

    def glimpse(self, latents: Tensor) -> Glimpse:
        """What is seen in contexts (n, K, C, h, w): in their two newest latents, or the only one twice.

        Positions of N markers, (x, y) in metres, (n, 2, N, 2), the older frame's first; and whether they are there.
        """
        count, length = latents.shape[:2]
        if not self.names:
            nothing = self.positions.new_zeros(count, 2, 0, 2)
            return Glimpse((nothing, nothing[..., 0].bool()))
        found, seen = self._find(latents[:, [max(0, length - 2), length - 1]].flatten(0, 1))
        return Glimpse((found.unflatten(0, (count, 2)), seen.unflatten(0, (count, 2))))

    def start(self, which: Tensor, glimpse: Glimpse) -> None:
        """Begin anew in some environments, a mask (B,), with what is seen there at first, of B environments."""
        (first, second), (there, here) = (part.unbind(1) for part in glimpse.parts)
        first = torch.where(there.unsqueeze(-1), first, 0.0)
        second = torch.where(here.unsqueeze(-1), second, first)
        previous = torch.where((there & here).unsqueeze(-1), first, second)
        chosen = which.view(-1, 1, 1)
        self.positions.copy_(torch.where(chosen, second, self.positions))
        self._previous.copy_(torch.where(chosen, previous, self._previous))
        self.seen.copy_(torch.where(which.unsqueeze(1), here, self.seen))

    def look(self, latents: Tensor, located: Located | None = None) -> None:
        """Follow the markers of all environments into their next frames' latents (B, C, h, w).

        Args:
            latents: The newest.
            located: What is in them, if that is known already.
        """
        if self.names:
            found, seen = self._find(latents, located)
            now = torch.where(seen.unsqueeze(-1), found, self.positions)
            self._previous.copy_(torch.where((seen & self.seen).unsqueeze(-1), self.positions, now))
            self.positions.copy_(now)
            self.seen.copy_(seen)

    @property
    def remembered(self) -> dict[str, Tensor]:
        """What is followed from frame to frame, by name, (B, ...)."""
        return {"positions": self.positions, "seen": self.seen, "previous": self._previous}

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

    @torch.no_grad()
    def _find(self, latents: Tensor, located: Located | None = None) -> tuple[Tensor, Tensor]:
        """Positions (B, N, 2), and whether they are seen (B, N)."""
        located = located or self._perception.locate(latents)
        found = located.positions
        return found, (located.presence > PRESENT) & found.isfinite().all(-1)  # a broken dream's NaN is not seen
