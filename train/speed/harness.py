"""How are speeds compared on a noisy machine? In turns, in one run: ratios are steadier than seconds."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import torch

from cosmos_isaac_wm.precision import Compile, Precision


class DreamOptions(TypedDict):
    """How the dream's network is run, as of `FastModule`.

    Attributes:
        dtype: Its precision.
        compile: Whether to compile it.
    """

    dtype: Precision
    compile: Compile


@dataclass(frozen=True)
class Row:
    """One measured thing.

    Attributes:
        group: What it was measured in turns with.
        name: What it is.
        batch: Environments that advance together, B.
        seconds: Of one call, one per repeat.
        over: Its speed as a multiple of the first of its group at the same batch, the median over the repeats.
    """

    group: str
    name: str
    batch: int
    seconds: tuple[float, ...]
    over: float = 1.0

    @property
    def steps_per_s(self) -> float:
        """Environment steps per second, from the median."""
        return self.batch / statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Distance of the quartiles as a share of the median."""
        low, middle, high = np.quantile(self.seconds, (0.25, 0.5, 0.75))
        return float((high - low) / middle)


class Bench:
    """Measures groups of calls in turns, and remembers.

    Args:
        repeats: How often each call is measured.
        seconds: How long each measurement takes at least, where a call is short.
        device: To wait for.
    """

    def __init__(self, repeats: int, seconds: float, device: torch.device):
        self._repeats, self._seconds, self._device = repeats, seconds, device
        self.rows: list[Row] = []

    def compare(
        self, group: str, batch: int, calls: Mapping[str, Callable[[], object]], turns: int = 1
    ) -> dict[str, float]:
        """Measure calls in turns, so many times as often as others; the speed of each as a multiple of the first's."""
        counts: dict[str, int] = {}
        times: dict[str, list[float]] = {name: [] for name in calls}
        for name, call in calls.items():
            call()  # memory and caches are warm, compilers done
            counts[name] = max(1, math.ceil(self._seconds / self._time(call, 1)))
        for _ in range(turns * self._repeats):
            for name, call in calls.items():
                times[name].append(self._time(call, counts[name]))
        first = np.array(next(iter(times.values())))
        over = {name: float(np.median(first / np.array(seconds))) for name, seconds in times.items()}
        self.rows += [Row(group, name, batch, tuple(seconds), over[name]) for name, seconds in times.items()]
        return over

    def _time(self, call: Callable[[], object], count: int) -> float:
        """Seconds of one of `count` calls."""
        self._wait()
        start = time.perf_counter()
        for _ in range(count):
            call()
        self._wait()
        return (time.perf_counter() - start) / count

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
