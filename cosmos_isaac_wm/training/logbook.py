"""What is written down while a fit goes on? Losses and validations, the best weights, and a checkpoint a minute."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import nn
from tqdm import tqdm

from ..storage.checkpoint import Checkpoint, Stateful

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_SAVED_EVERY = 60  # seconds


class Logbook:
    """The bookkeeping of a fit that can be resumed.

    Args:
        out: Folder of checkpoints and TensorBoard scalars.
        kept: The network that is validated, and whose best weights are kept.
        updates: How many there will be.
        parts: What a checkpoint holds; restored from the one in `out`, if there is one.

    Attributes:
        curve: Per validation: update, training loss since the last, learning rate, rollout, validation errors.

    Raises:
        ValueError: If the checkpoint does not fit.
    """

    def __init__(self, out: Path, kept: nn.Module, updates: int, **parts: Stateful):
        self._updates = updates
        self._checkpoint, self._best = (
            Checkpoint(out / "checkpoint.pt", **parts),
            Checkpoint(out / "best.pt", model=kept),
        )
        state = self._checkpoint.load()
        self.curve: list[dict[str, float]] = list(state.get("curve", []))
        self._losses: list[float] = list(state.get("losses", []))
        self._spent, self._start = float(state.get("seconds", 0.0)), int(state.get("update", 0))
        self._writer = _tensorboard(out)
        self._saved = self._began = time.monotonic()
        self._bar: tqdm[int] | None = None

    @property
    def best(self) -> dict[str, float]:
        """The validation with the least error."""
        return min(self.curve, key=lambda row: row["error"])

    @property
    def seconds(self) -> float:
        """That the fit took, validations included, over all resumed runs."""
        return self._spent + time.monotonic() - self._began

    def remaining(self) -> Iterator[int]:
        """The updates that are still to be done, with a progress bar."""
        done = range(self._start, self._updates)
        self._bar = tqdm(done, desc="fit dynamics", unit="update", initial=self._start, total=self._updates)
        yield from self._bar

    def note(self, loss: float) -> None:
        """The loss of an update."""
        self._losses.append(loss)

    def validated(self, update: int, lr: float, rollout: int, errors: dict[str, float]) -> None:
        """What validation after an update gave; the best weights are kept."""
        loss = float(np.mean(self._losses))
        entry = {"update": update, "loss": loss, "lr": lr, "rollout": rollout, **errors}
        self._losses.clear()
        self.curve.append(entry)
        if entry["error"] == self.best["error"]:
            self._best.save()
        if self._writer is not None:
            for key, value in entry.items():
                self._writer.add_scalar(f"fit/{key}", value, update)
        if self._bar is not None:
            self._bar.set_postfix(loss=f"{loss:.4f}", val=f"{entry['error']:.2f}")

    def save(self, update: int) -> None:
        """Write a checkpoint if the last one is a minute old, or the fit is at its end."""
        if time.monotonic() - self._saved > _SAVED_EVERY or update == self._updates:
            self._saved = time.monotonic()
            seconds = self._spent + self._saved - self._began
            self._checkpoint.save(update=update, curve=self.curve, losses=self._losses, seconds=seconds)

    def finish(self) -> None:
        """Load the best weights into the network that is kept."""
        if self._writer is not None:
            self._writer.close()
        self._best.load()


def _tensorboard(out: Path) -> SummaryWriter | None:
    """A TensorBoard writer where it is installed, else None."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(out / "tensorboard"))  # type: ignore[no-untyped-call]
