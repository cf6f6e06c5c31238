"""What do many dreams say beside few real episodes? One interval of real success: prediction-powered inference.

The dreams give the rate, and the starts that were played in both worlds say how far that is off (PPI++, Angelopoulos,
Duchi, Zrnic, arXiv 2311.01453; how much the dreams count is chosen by how well they agree). Its interval is a normal
approximation, which holds far too rarely where few episodes nearly all succeed: of ten at a rate of 0.98 in one of
seven cases instead of nine in ten. So a pair of each of the four outcomes is added, as Agresti and Coull do, once with
and once without as many in proportion to the other dreams; both intervals joined hold often enough where one does not.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .playing import Played

FEWEST = 10  # real episodes
_ADDED = np.array([(1, 1), (1, 0), (0, 1), (0, 0)], float)  # success in reality and in the dream


@dataclass(frozen=True)
class RealInterval:
    """Of the rate of real success.

    Attributes:
        low: Its lower end.
        high: Its upper end.
        ratio: Its width, divided by that of Wilson's interval from the real episodes alone.
    """

    low: float
    high: float
    ratio: float

    @classmethod
    def beside(cls, real: Sequence[bool], low: float, high: float, level: float) -> RealInterval:
        """An interval of a level, beside Wilson's from the real episodes."""
        lowest, highest = Played(list(real)).rate_interval(level)
        return cls(low, high, (high - low) / (highest - lowest))


def must_be_installed() -> None:
    """Say now what is missing.

    Raises:
        ImportError: If prediction-powered inference is not installed; says how to get it.
    """
    if importlib.util.find_spec("ppi_py") is None:
        raise ImportError("--real_episodes needs ppi-python: pip install 'cosmos-isaac-wm[ppi]'")


def real_interval(real: Sequence[bool], dream: Sequence[bool], level: float = 0.95) -> RealInterval:
    """The interval of the rate of real success.

    Args:
        real: Success of real episodes, at least `FEWEST`.
        dream: Of dreamed ones; the first begin where the real ones do, one by one, and there are more of them.
        level: How often the interval shall hold the rate.

    Raises:
        ImportError: See `must_be_installed`.
        ValueError: If there are too few of either.
    """
    must_be_installed()
    from ppi_py import ppi_mean_ci

    if len(real) < FEWEST or len(dream) <= len(real):
        raise ValueError(
            f"an interval needs {FEWEST} real episodes or more, and more dreamed ones; got {len(real)} and {len(dream)}"
        )
    true, dreamed = np.asarray(real, float), np.asarray(dream, float)
    paired = np.concatenate([np.column_stack([true, dreamed[: len(true)]]), _ADDED])
    alone, share = dreamed[len(true) :], len(_ADDED) / len(true)
    added = np.repeat([0.0, 1.0], round(share * len(alone) / 2))  # as many in proportion
    ends = [
        float(np.ravel(end)[0])
        for others in (alone, np.concatenate([alone, added]))
        for end in ppi_mean_ci(paired[:, 0], paired[:, 1], others, alpha=1 - level)
    ]
    return RealInterval.beside(real, max(0.0, min(ends)), min(1.0, max(ends)), level)
