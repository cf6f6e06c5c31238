"""How good did an agent become while it was trained, and when? The table of its evaluations, and what it says."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ..storage.atomic import replacing
from ..storage.structured import read_rows

GOOD = 0.85  # success rate whose first evaluation counts as "good"


@dataclass(frozen=True)
class EvaluationRow:
    """One evaluation during training.

    Attributes:
        timesteps: Environment steps trained so far.
        seconds: Seconds trained so far.
        success: Share of episodes that succeeded; NaN where the environment does not say.
        mean_return: Mean return.
        mean_length: Mean steps of an episode.
    """

    timesteps: int
    seconds: float
    success: float
    mean_return: float
    mean_length: float


def read_evaluations(path: Path, until: float = np.inf) -> list[EvaluationRow]:
    """What `write_evaluations` wrote, of the first `until` environment steps; nothing if there is no file yet."""
    if not path.is_file():
        return []
    rows = read_rows(path, EvaluationRow)
    return [row for row in rows if row.timesteps <= until]


def write_evaluations(path: Path, rows: Sequence[EvaluationRow]) -> None:
    """Write one row or more as a CSV file, with a header."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(asdict(rows[0])))
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def best_of(rows: Sequence[EvaluationRow]) -> EvaluationRow:
    """The evaluation with the greatest return, the first of several."""
    return max(rows, key=lambda row: row.mean_return)


def first_good(rows: Sequence[EvaluationRow]) -> EvaluationRow | None:
    """The first evaluation whose success rate was `GOOD`; None if there is none."""
    return next((row for row in rows if row.success >= GOOD), None)


def evaluation_figures(rows: Sequence[EvaluationRow], prefix: str = "") -> dict[str, float]:
    """The best evaluation, and how soon one was good; none without evaluations.

    Args:
        rows: The table.
        prefix: Of the figures' names.
    """
    if not rows:
        return {}
    best, good = best_of(rows), first_good(rows)
    figures = {f"{prefix}return": best.mean_return}
    figures |= {f"{prefix}success": best.success} if np.isfinite(best.success) else {}
    if good is not None:
        figures |= {f"{prefix}steps_to_good": float(good.timesteps), f"{prefix}seconds_to_good": good.seconds}
    return figures


def draw_evaluations(path: str | os.PathLike[str], evaluations: Mapping[str, Sequence[EvaluationRow]]) -> None:
    """Success over steps as a PNG, a line for each environment by its name; returns where success is not known."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    known = any(np.isfinite(row.success) for rows in evaluations.values() for row in rows)
    for name, rows in evaluations.items():
        shown = [row.success if known else row.mean_return for row in rows]
        axes.plot([row.timesteps for row in rows], shown, marker="o", label=f"in {name}")
    axes.set(xlabel="environment steps", ylabel="success rate" if known else "mean return")
    if known:
        axes.set_ylim(0, 1.02)
    axes.legend()
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=130)
