"""How is it shown what a dream says of its own error? Bounds beside errors over time, and promised against kept."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from ..error_bound import LEVEL, ErrorBound
from ..evaluation.trust import LEVELS, Doubted, Floats, trust_figures
from ..storage.atomic import replacing
from .figures import DREAM

_BOUND, _PLAIN = "#2f5fa8", "#8a8a8a"


def draw_trust(path: str | os.PathLike[str], bound: ErrorBound, rows: Sequence[Doubted], unit: str) -> None:
    """Of every kind errors, bounds and steps; and of all kinds how often bounds hold against how often they should.

    Args:
        path: Of the PNG.
        bound: The bundle's.
        rows: Of `doubted`.
        unit: Of the errors.
    """
    kinds = sorted({row.kind for row in rows})
    figure = Figure(figsize=(4.6 * (len(kinds) + 1), 4.0), layout="constrained")
    *axes, last = figure.subplots(1, len(kinds) + 1, squeeze=False)[0]
    for axis, kind in zip(axes, kinds, strict=True):
        own = [row for row in rows if row.kind == kind]
        errors, bounds, plain = (
            _worst([scale * getattr(row, name) for row in own])
            for name, scale in (
                ("errors", 1.0),
                ("estimates", bound.factor(kind)),
                ("usual", bound.factor(kind, usual=True)),
            )
        )
        steps = np.arange(1, errors.shape[1] + 1)
        low, middle, high = np.nanpercentile(bounds, [10, 50, 90], axis=0)
        axis.fill_between(steps, low, high, color=_BOUND, alpha=0.18, linewidth=0)
        axis.plot(steps, middle, color=_BOUND, label=f"bound ({100 * LEVEL:.0f} % of episodes), and 80 % of them")
        axis.plot(steps, np.nanmean(plain, axis=0), "--", color=_PLAIN, label="a bound that knows the step only")
        axis.plot(
            steps, np.nanpercentile(errors, 90, axis=0), color=DREAM, label="error that 90 % of dreams stay below"
        )
        axis.set(title=f"{kind}, {len(own)} episodes", xlabel="dreamed steps", ylabel=unit, ylim=(0, None))
        axis.set_ylim(0, 1.35 * axis.get_ylim()[1])  # room for the legend
        axis.grid(alpha=0.25)
        axis.legend(loc="upper left", fontsize=8)
    last.plot([0, 1], [0, 1], ":", color=_PLAIN)
    found = trust_figures(bound, rows)
    for kind in kinds:
        told = [(level, found.get(f"{kind}_bound_coverage_{100 * level:.0f}")) for level in LEVELS]
        points = [(level, kept) for level, kept in told if kept is not None]
        if points:
            last.plot(*zip(*points, strict=True), "o-", label=kind)
    last.set(title="all steps of an episode at once", xlabel="promised", ylabel="kept", xlim=(0.4, 1), ylim=(0, 1.02))
    last.grid(alpha=0.25)
    last.legend(loc="lower right", fontsize=8)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _worst(parts: Sequence[Floats]) -> Floats:
    """The largest of the components at every step, a row an episode, (E, T), NaN beyond an episode's end."""
    together = np.full((len(parts), max(map(len, parts))), np.nan)
    for row, part in zip(together, parts, strict=True):
        row[: len(part)] = np.where(np.isfinite(part).any(axis=1), np.nan_to_num(part, nan=-np.inf).max(axis=1), np.nan)
    return together
