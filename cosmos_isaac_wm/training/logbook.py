"""What is written down while a fit goes on? Losses and validations, the best weights, and a checkpoint a minute.

Losses are summed where they arise, on the device, and read only when something is written or shown.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..storage.checkpoint import SAVED_EVERY, Checkpoint, Stateful
from ..telemetry import track
from .clock import Budget, Updates
from .processes import Processes

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_SHOWN_EVERY = 10  # seconds
_NONE = 2**62  # in place of an update's number


class Losses:
    """The losses since they were last taken: their sum and count, and which of them was the first that is not finite.

    Args:
        processes: Whose parts of the loss they are.
        advice: What to do when one is not finite.

    Attributes:
        count: How many there are.
    """

    def __init__(self, processes: Processes, advice: str):
        self._processes, self._advice = processes, advice
        self._sum = torch.zeros((), dtype=torch.float64, device=processes.device)
        self._first_bad = torch.full((), _NONE, device=processes.device)
        self.count = 0

    def note(self, update: int, loss: Tensor) -> None:
        """Add the loss of an update, which stays on the device."""
        self._sum += loss
        self._first_bad = torch.where(loss.isfinite(), self._first_bad, self._first_bad.clamp(max=update))
        self.count += 1

    def read(self) -> tuple[float, int]:
        """Sum and count.

        Raises:
            ValueError: If a loss was not finite; says which was the first.
        """
        total = float(self._processes.total(self._sum.clone()))
        if not math.isfinite(total):
            first = int(self._processes.gathered(self._first_bad.reshape(1)).min())
            raise ValueError(f"the loss is {total} at update {first}; {self._advice}")
        return total, self.count

    def begin(self, total: float = 0.0, count: int = 0) -> None:
        """Forget them, or go on from those of a checkpoint."""
        self._sum.fill_(total if self._processes.main else 0.0)
        self.count = count


def going_on(done: int, path: Path, processes: Processes) -> None:
    """Say once where an interrupted fit goes on."""
    if done and processes.main:
        print(f"going on from update {done} in {path}", file=sys.stderr, flush=True)


class Logbook:
    """The bookkeeping of a fit that can be resumed; of several processes the main one alone writes and shows.

    Args:
        out: Folder of checkpoints and TensorBoard scalars.
        kept: The network that is validated, and whose best weights are kept.
        processes: Who trains.
        lr: The peak learning rate, which may be too high.
        parts: What a checkpoint holds; restored from the one in `out`, if there is one.

    Attributes:
        curve: Per validation: update, training loss since the last, learning rate, rollout, validation errors.
        updates: The updates one after the other, and how long they have taken.
        losses: Since the last validation.

    Raises:
        ValueError: If the checkpoint does not fit.
    """

    def __init__(self, out: Path, kept: nn.Module, processes: Processes, lr: float, **parts: Stateful):
        self._kept, self._processes, self._parts = kept, processes, parts
        self._checkpoint = Checkpoint(out / "checkpoint.pt", **parts)
        self._best = Checkpoint(out / "best.pt", model=kept)
        state = self._checkpoint.load()
        self.curve: list[dict[str, float]] = list(state.get("curve", []))
        self.losses = Losses(
            processes, f"lower the learning rate (now {lr:g}). The last checkpoint in {out} is from before."
        )
        self.losses.begin(*state.get("losses", ()))
        done = int(state.get("update", 0))
        if processes.agreed(done) != done:
            raise ValueError(
                f"process {processes.rank} does not find the main one's {self._checkpoint.path}; all processes need "
                "the same disk"
            )
        self.updates = Updates(processes, done, float(state.get("seconds", 0.0)))
        going_on(done, self._checkpoint.path, processes)
        self._writer = _tensorboard(out) if processes.main else None

    @property
    def best(self) -> dict[str, float]:
        """The validation with the least error."""
        return min(self.curve, key=lambda row: row["error"])

    def remaining(self, budget: Budget) -> Iterator[tuple[int, float]]:
        """The updates that are still to be made, as of `Updates`; between them losses are shown, checkpoints saved."""
        for update, progress in self.updates.until(budget, "fit dynamics"):
            yield update, progress
            self._look()

    def validated(self, done: int, lr: float, rollout: int, errors: dict[str, float]) -> None:
        """What validation after `done` updates gave; the best weights are kept."""
        total, count = self.losses.read()
        loss = total / max(1, count)
        entry = {"update": done, "loss": loss, "lr": lr, "rollout": rollout, **errors}
        self.losses.begin()
        self.curve.append(entry)
        if entry["error"] == self.best["error"] and self._processes.main:
            self._best.save()
        if self._writer is not None:
            for key, value in entry.items():
                self._writer.add_scalar(f"fit/{key}", value, done)
        track({f"fit/{key}": value for key, value in entry.items()}, done)
        self.updates.show(loss=f"{loss:.4f}", val=f"{entry['error']:.2f}")

    def _look(self) -> None:
        """Show the loss every few seconds, and write a checkpoint if the last one is a minute old."""
        if self.updates.due("loss", _SHOWN_EVERY):
            total, count = self.losses.read()
            val = {"val": f"{self.curve[-1]['error']:.2f}"} if self.curve else {}
            self.updates.show(loss=f"{total / count:.4f}" if count else "", **val)
        if self.updates.due("checkpoint", SAVED_EVERY):
            self.save()

    def save(self) -> None:
        """Write a checkpoint."""
        updates, losses = self.updates, self.losses.read()
        if self._processes.main:
            self._checkpoint.save(update=updates.done, curve=self.curve, losses=losses, seconds=updates.seconds)
        else:
            for part in self._parts.values():
                part.state_dict()  # for which each process gives what it holds

    def finish(self) -> None:
        """Write the last checkpoint, and load the best weights into the network that is kept."""
        self.save()
        if self._writer is not None:
            self._writer.close()
        if self._processes.main:
            self._best.load()
        self._processes.begin_alike(self._kept.state_dict().values())


def _tensorboard(out: Path) -> SummaryWriter | None:
    """A TensorBoard writer where it is installed, else None."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(out / "tensorboard"))  # type: ignore[no-untyped-call]
