"""Where the markers are, as far as the readout has seen: positions and velocities followed from frame to frame."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..perception import Perception
from ..precision import Compile, FastModule, Precision
from ..readout import Located

PRESENT = 0.5  # probability above which a marker counts as seen


class Sight:
    """The markers of B environments. One that is not seen stays where it was; one that never was is at zero.

    Args:
        perception: Scene and readout; without a readout there are no markers.
        num_envs: B.
        dtype: Precision of the readout in `look`, as of `FastModule`.
        compile: Whether to compile it for that.

    Attributes:
        positions: Where each marker was last seen, (x, y) in metres, (B, N, 2).
        seen: Whether it is in the newest frame, (B, N).
    """

    def __init__(self, perception: Perception, num_envs: int, dtype: Precision = "float32", compile: Compile = False):
        self._perception = perception
        self.names = perception.scene.marker_names if perception.readout is not None else ()
        self.positions = torch.zeros(num_envs, len(self.names), 2, device=perception.device)
        self.seen = torch.zeros(num_envs, len(self.names), dtype=torch.bool, device=perception.device)
        self._previous = self.positions
        self._locate: Callable[[Tensor], Located] = perception.locate
        if perception.readout is not None and (dtype, compile) != ("float32", False):
            self._locate = FastModule(perception.readout, num_envs, dtype, compile)

    def begin(self, latents: Tensor, slots: Tensor) -> None:
        """Begin anew in some environments (b,), with their two newest latents, older first, (b, 2, C, h, w)."""
        if not self.names:
            return
        nothing = self.positions.new_zeros(len(slots), len(self.names), 2)
        locate = self._perception.locate
        first, there, _ = self._look(latents[:, 0], nothing, nothing[..., 0] > 0, locate)
        second, seen, previous = self._look(latents[:, 1], first, there, locate)
        self.positions = self.positions.index_copy(0, slots, second)
        self.seen = self.seen.index_copy(0, slots, seen)
        self._previous = self._previous.index_copy(0, slots, previous)

    def look(self, latents: Tensor) -> None:
        """Follow the markers of all environments into their next frames' latents (B, C, h, w)."""
        if self.names:
            self.positions, self.seen, self._previous = self._look(latents, self.positions, self.seen, self._locate)

    def velocities(self) -> Tensor:
        """Of all environments' markers in m/s, (B, N, 2); zero for one that was not seen in both newest frames."""
        return (self.positions - self._previous) * self._perception.scene.control_hz

    def by_name(self) -> dict[str, Tensor]:
        """Positions of all environments by marker name, (B, 2) each, NaN where it is not seen."""
        positions = torch.where(self.seen.unsqueeze(-1), self.positions, torch.nan)
        return {name: positions[:, index] for index, name in enumerate(self.names)}

    def _look(
        self, latents: Tensor, positions: Tensor, seen: Tensor, locate: Callable[[Tensor], Located]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """New positions, what is seen, and where it was before; from latents and from what was seen so far."""
        with torch.inference_mode():
            located = locate(latents)
            found = located.positions.float()
            now = (located.presence > PRESENT) & found.isfinite().all(-1)  # a broken dream's NaN is not seen
            moved = torch.where(now.unsqueeze(-1), found, positions)
            return moved, now, torch.where((now & seen).unsqueeze(-1), positions, moved)
