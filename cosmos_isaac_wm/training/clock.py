"""How far is a training, and how fast does it learn there? By its updates or by the clock, whichever is further."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

from tqdm import tqdm

from .processes import Processes


@dataclass(frozen=True)
class Budget:
    """How long to train.

    Attributes:
        updates: At most so many.
        minutes: At most so long, or None; over all resumed runs.
        reserved: Seconds of these minutes that are kept for what comes after the last update.
    """

    updates: int
    minutes: float | None = None
    reserved: float = 0.0

    def progress(self, update: int, seconds: float) -> float:
        """The share that is done: of the updates or of the time, whichever is larger; the training ends at 1.

        Args:
            update: Updates that are done.
            seconds: That they took, over all resumed runs.
        """
        share = update / self.updates if self.updates else 1.0
        return share if self.minutes is None else max(share, seconds / max(1e-9, 60 * self.minutes - self.reserved))

    def must_allow(self, validation: float, option: str) -> Budget:
        """The same budget with time kept for the validation at its end.

        Args:
            validation: Seconds that one takes.
            option: What the budget is called on the command line.

        Raises:
            ValueError: If there is no time for a single one.
        """
        if self.minutes is None:
            return self
        if 60 * self.minutes <= 2 * validation:
            raise ValueError(
                f"{option} {self.minutes:g} is too short: a single validation takes {validation:.1f} s, and there has "
                f"to be as much time to train; give at least {3 * validation / 60:.2g}"
            )
        return Budget(self.updates, self.minutes, validation)


class Updates:
    """The updates of a training one after the other, until its budget is spent, with a progress bar.

    Args:
        processes: Who trains; the main one's clock counts for all.
        done: Updates that a checkpoint says are done.
        spent: Seconds that they took.

    Attributes:
        done: Updates that are done, the one that is being made included.
        now: Seconds when that one began.
    """

    def __init__(self, processes: Processes, done: int = 0, spent: float = 0.0):
        self._processes, self.done, self.now, self._spent = processes, done, spent, spent
        self._began = time.monotonic() - spent
        self._bar: tqdm[NoReturn] | None = None
        self._last: dict[str, float] = {}

    @property
    def seconds(self) -> float:
        """That the training took, over all resumed runs."""
        return time.monotonic() - self._began

    def until(self, budget: Budget, what: str) -> Iterator[tuple[int, float]]:
        """The number of every update that is still to be made, with the share of the budget that is gone before it.

        Args:
            budget: How long to train.
            what: What is done, for the bar.
        """
        timed = budget.minutes is not None
        name, total = (f"{what} for {budget.minutes:g} minutes", None) if timed else (what, budget.updates)
        hidden = not self._processes.main
        with tqdm(desc=name, unit="update", initial=self.done, total=total, disable=hidden) as self._bar:
            while True:
                self.now = self._processes.agreed(self.seconds)
                progress = budget.progress(self.done, self.now)
                if progress >= 1:
                    break
                self.done += 1
                yield self.done - 1, progress
                self._bar.update()

    def show(self, **figures: str) -> None:
        """Show figures on the bar."""
        if self._bar is not None:
            self._bar.set_postfix(figures)

    def due(self, what: str, every: float) -> bool:
        """Whether something is to be done again that is done every so many seconds; the same in all processes."""
        if self.now - self._last.get(what, self._spent) <= every:
            return False
        self._last[what] = self.now
        return True


def trapezoid(progress: float, least: float, warmup: float, cooldown: float) -> float:
    """The share of the peak learning rate: it rises, is flat, and falls to nothing.

    Args:
        progress: Share of the training that is done, in [0, 1].
        least: Share of the training that an update is, which warm-up and cool-down take at least.
        warmup: Share of the training in which it rises.
        cooldown: Share of the training in which it falls.
    """
    return max(0.0, min(1.0, (progress + least) / max(least, warmup), (1 - progress) / max(least, cooldown)))
