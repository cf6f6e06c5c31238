"""How is transfer shown? As a table with its bars, and as success in reality against success in the dream."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from ...evaluation import confidence_interval
from ...reporting.table import judge
from ...storage.atomic import replacing
from .both_worlds import BothWorlds

# Figure: (bar, aim)
BARS = {
    "real_success": (0.85, 0.98),
    "over_real_trained": (0.90, 1.0),
    "exploitation_gap": (0.10, 0.02),
    "planner_real_success": (0.70, 0.90),
    "spearman": (0.85, 0.95),
    "pearson": (0.97, 0.99),
    "mmrv": (0.05, 0.02),
    "time_ratio": (0.5, 0.1),
}
EXPLOITED = 0.10  # dream success above real success by more than this is exploitation of the model


def table(rows: Mapping[str, BothWorlds], figures: Mapping[str, float], most: float = np.inf) -> str:
    """The results as Markdown.

    Args:
        rows: The episodes of each policy, by name.
        figures: What follows from them.
        most: Metres that the object may be off where a dreamed success still counts as one.
    """
    lines = [
        "| policy | success, dream | clear success | success, real | return, dream | return, real | off, cm | steps |",
        "|---|---|---|---|---|---|---|---|",
        *("| " + " | ".join([name, *_cells(row)]) + " |" for name, row in rows.items()),
        "",
        "Intervals are 95 %: Wilson's for rates, bootstrap for returns. How far the object is "
        "off its goal at the end, and steps, are means, dream / real.",
        "",
    ]
    for name, row in rows.items():
        lines += _words(name, row, figures, most)
        if row.steps_per_s is not None:
            lines.append(f"{name} thinks of {row.steps_per_s:.2f} actions a second.")
    if "claims_held" in figures:
        lines.append(f"{figures['claims_held']:.0f} of {figures['claims_judged']:.0f} claims hold in reality.")
    for name, (bar, aim) in BARS.items():
        if name in figures:
            lines.append(f"{name}: {figures[name]:.3f} ({judge(figures[name], bar, aim)})")
    if "return_pearson" in figures:
        lines.append(f"by return: pearson {figures['return_pearson']:.3f}, spearman {figures['return_spearman']:.3f}")
    return "\n".join(lines)


def _words(name: str, row: BothWorlds, figures: Mapping[str, float], most: float) -> Iterator[str]:
    """What has to be said of a policy: its interval, whether it exploits the dream, or may do so."""
    if f"{name}_claim_low" in figures:
        low, high = figures[f"{name}_claim_low"], figures[f"{name}_claim_high"]
        yield f"{name}: the dream claims a real success of {low:.2f} to {high:.2f}."
    gap, (low, high) = row.dream.rate - row.real.rate, row.real.rate_interval()
    if f"{name}_real_interval_low" in figures:
        low, high, ratio = (figures[f"{name}_real_interval_{end}"] for end in ("low", "high", "ratio"))
        yield (
            f"{name}: real success is {low:.2f} to {high:.2f} by {len(row.real.success)} real and "
            f"{len(row.dream.success)} dreamed episodes, {ratio:.2f} times as wide as by the real ones alone."
        )
    if gap > EXPLOITED and row.dream.rate > high:
        yield f"**Exploitation:** {name} succeeds more often in the dream than in reality, by {gap:.2f}."
    if not row.real.success and row.clear.success and row.dream.rate - row.clear.rate > EXPLOITED:
        yield (
            f"**Doubt:** {name} succeeds in {row.dream.rate:.2f} of its dreams, but clearly in {row.clear.rate:.2f}: "
            "it aims for the rim of the goal, and nobody has seen it succeed in reality (--real_episodes)."
        )
    if not row.real.success and row.dream.successful_bound > most:
        yield (
            f"**Doubt:** where {name} succeeds, the dream may be off by {row.dream.successful_bound:.3f} m, more than "
            f"{most:.3f}; nobody has seen it succeed in reality (--real_episodes)."
        )


def _cells(row: BothWorlds) -> Iterator[str]:
    """A policy's line of the table, without its name."""
    both = (row.dream, row.real)
    for played in (row.dream, row.clear, row.real):
        low, high = played.rate_interval()
        yield f"{played.rate:.2f} ({low:.2f} to {high:.2f})" if played.success else "not played"
    for played in both:
        yield _mean_with_interval(played.episode_return) if played.success else "not played"
    shown = [played for played in both if played.success]
    yield " / ".join(f"{100.0 * np.nanmean(played.distance):.1f}" for played in shown)
    yield " / ".join(f"{np.nanmean(played.length):.0f}" for played in shown)


def _mean_with_interval(values: Sequence[float]) -> str:
    low, high = confidence_interval(np.array(values), lambda drawn: float(np.mean(drawn)), seed=0)
    return f"{np.mean(values):.2f}" + (f" ({low:.2f} to {high:.2f})" if high > low else "")


def draw(path: str | os.PathLike[str], rows: Mapping[str, BothWorlds]) -> None:
    """Success in the real simulator against success in the dream, clear success where it was played, as a PNG."""
    figure = Figure(figsize=(6, 5.4), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.8", zorder=0)
    for name, row in rows.items():
        if not row.real.success:
            continue
        x, y = row.foretelling.rate, row.real.rate
        both = (row.foretelling, row.real)
        across, along = (np.abs(np.subtract(played.rate_interval(), played.rate)) for played in both)
        axes.errorbar(x, y, xerr=across[:, None], yerr=along[:, None], marker="o", capsize=2, label=name)
    clear = any(row.clear.success for row in rows.values())
    axes.set(xlabel=f"{'clear ' if clear else ''}success in the dream", ylabel="success in the real simulator")
    axes.set(xlim=(-0.05, 1.05), ylim=(-0.05, 1.05))
    axes.legend(fontsize=7)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=130)
