"""How well does success in the dream foretell success in reality? A correlation over policies, with its interval."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Correlation:
    """How well success in the dream foretells success in the real simulator, over policies.

    Attributes:
        pearson: Of the rates.
        spearman: Of their ranks.
        pearson_interval: 95 % bootstrap interval over policies.
        spearman_interval: The same.
    """

    pearson: float
    spearman: float
    pearson_interval: tuple[float, float]
    spearman_interval: tuple[float, float]


def correlate(dream: Sequence[float], real: Sequence[float], seed: int = 0) -> Correlation:
    """Correlation of one number per policy in both worlds.

    Raises:
        ValueError: If there are fewer than three policies, or all are alike.
    """
    if len(dream) < 3 or np.ptp(dream) == 0 or np.ptp(real) == 0:
        raise ValueError("a correlation needs three policies or more, of different quality")

    def interval(measure: Callable[..., Any]) -> tuple[float, float]:
        with warnings.catch_warnings():
            for warning in (stats.ConstantInputWarning, stats.DegenerateDataWarning):  # a draw of like policies
                warnings.simplefilter("ignore", warning)
            result = stats.bootstrap(
                (np.asarray(dream), np.asarray(real)),
                lambda x, y: measure(x, y).statistic,
                paired=True,
                vectorized=False,
                n_resamples=2000,
                method="percentile",
                rng=np.random.default_rng(seed),
            )
        low, high = np.nanquantile(result.bootstrap_distribution, (0.025, 0.975))
        return float(low), float(high)

    return Correlation(
        float(stats.pearsonr(dream, real).statistic),
        float(stats.spearmanr(dream, real).statistic),
        interval(stats.pearsonr),
        interval(stats.spearmanr),
    )


def rank_violation(dream: Sequence[float], real: Sequence[float]) -> float:
    """Mean maximum rank violation (Li et al., "Evaluating real-world robot manipulation policies in simulation").

    Of every policy the largest difference in reality to one that the dream does not rank as reality does, on average: 0
    where the dream orders all as reality does. Policies that are alike in the dream only are not ranked so.
    """
    dreamed, true = np.asarray(dream, float), np.asarray(real, float)
    wrong = (dreamed[:, None] < dreamed) != (true[:, None] < true)
    return float(np.where(wrong, np.abs(true[:, None] - true), 0.0).max(axis=1).mean())


def foretold(dream: Sequence[float], real: Sequence[float]) -> dict[str, float]:
    """The figures of both: `pearson`, `spearman`, their `_low` and `_high`, `mmrv`, and of how many `policies`.

    Nothing where there are too few, or all are alike.
    """
    try:
        found = correlate(dream, real)
    except ValueError:
        return {}
    figures = {"pearson": found.pearson, "spearman": found.spearman, "mmrv": rank_violation(dream, real)}
    figures |= {"pearson_low": found.pearson_interval[0], "pearson_high": found.pearson_interval[1]}
    figures |= {"spearman_low": found.spearman_interval[0], "spearman_high": found.spearman_interval[1]}
    return figures | {"policies": float(len(dream))}
