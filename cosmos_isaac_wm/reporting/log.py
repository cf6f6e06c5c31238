"""What is logged at every step? Where the object was dreamed and where it really was: `cube_positions.csv`.

Of the twin of a foreign environment, what was observed and earned: `states.csv`.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ..evaluation.open_loop import OpenLoop
from ..scene import Scene
from ..storage.atomic import replacing

CSV_NAME, STATES_NAME = "cube_positions.csv", "states.csv"
CSV_COLUMNS = (
    "episode",
    "step",
    "time_s",
    "true_x_m",
    "true_y_m",
    "dream_x_m",
    "dream_y_m",
    "true_x_px512",
    "true_y_px512",
    "dream_x_px512",
    "dream_y_px512",
    "error_mm",
    "error_px512",
    "detected",
)
REWARD_COLUMNS = ("dream_reward", "real_reward")  # more columns of a lockstep log


def csv_row(scene: Scene, track: OpenLoop, step: int) -> list[str]:
    """The line of dreamed step `step` = 1, 2, ..., of the first marker; unknown values are empty.

    Times are seconds since the last context frame; pixels are at 512, from the centre of the top-left pixel.
    """
    truth, row = track.reference, step - 1
    true_m, dream_m = truth.true_m[row, 0], track.dream_m[row, 0]
    true_px, dream_px = truth.true_px[row, 0], track.dream_px[row, 0]
    errors = (1000 * np.linalg.norm(dream_m - true_m), np.linalg.norm(dream_px - true_px))
    values = [step / scene.control_hz, *true_m, *dream_m, *true_px, *dream_px, *errors]
    cells = ["" if np.isnan(value) else f"{value:.5g}" for value in values]
    return [str(track.number), str(step), *cells, str(int(track.detected[row, 0]))]


def track_rows(scene: Scene, track: OpenLoop) -> list[list[str]]:
    """The lines of a whole episode; none in a scene without markers."""
    return [csv_row(scene, track, step + 1) for step in range(len(track.dream_px) if scene.markers else 0)]


def state_columns(names: Sequence[str]) -> tuple[str, ...]:
    """The head of `states.csv`, for the components of an observation."""
    states = (f"{which}_{name}" for name in names for which in ("true", "dream"))
    return (*CSV_COLUMNS[:3], *states, "true_reward", "dream_reward", "true_end", "dream_end")


def state_row(
    number: int, step: int, time_s: float, states: Sequence[tuple[float, float]], *outcome: float
) -> list[str]:
    """A line of `states.csv`: of step `step` = 1, 2, ..., true and dreamed values in turns."""
    values = [time_s, *(value for pair in states for value in pair), *outcome]
    return [str(number), str(step), *(f"{value:.6g}" for value in values)]


def write_csv(
    path: str | os.PathLike[str],
    rows: Iterable[list[str]],
    more: Sequence[str] = (),
    columns: Sequence[str] = CSV_COLUMNS,
) -> None:
    """Write a whole log at once; `more` are columns beyond the usual."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([(*columns, *more), *rows])


def append_row(path: str | os.PathLike[str], row: Sequence[str]) -> None:
    """Add a line to a log: it is on disk at once, whatever happens next."""
    with Path(path).open("a", newline="") as file:
        csv.writer(file).writerow(row)


def rows_of_others(path: str | os.PathLike[str], number: int) -> list[list[str]]:
    """The lines of a log that belong to other episodes than this; none where there is no log yet."""
    if not Path(path).exists():
        return []
    with Path(path).open(newline="") as file:
        return [row for row in csv.reader(file) if row and row[0] not in (CSV_COLUMNS[0], str(number))]
