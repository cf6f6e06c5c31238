"""What real success does a dream claim of a policy? Its own, off by what it was off for others.

Over policies that were played in both worlds: by how much were the log odds of their success lower in reality? Log
odds, so that nothing leaves 0 to 1, and 0.98 may be off by less than 0.7. Of a policy that only the dream has seen the
jackknife+ claims a range (Barber, Candès, Ramdas, Tibshirani, arXiv 1905.02928). Of one that was played a few times in
reality the others say what is likely beforehand (Student's t of their differences), and its own episodes judge that:
empirical Bayes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.special import expit, log_expit, logit

from .both_worlds import BothWorlds
from .playing import Played
from .prediction_powered import RealInterval

LEVEL = 0.9  # how often a claim shall hold
FEWEST_KNOWN = 9  # policies, for one interval of that level; of fewer not even the worst tells as much
_LOG_ODDS = np.linspace(-14.0, 14.0, 5601)  # of real success, all that is likely


@dataclass(frozen=True)
class Claim:
    """Where the real success rate of a policy is, as a dream has it.

    Attributes:
        low: Its lower end.
        high: Its upper end.
        held: Whether the rate that was seen in reality lies between; None where none was seen.
    """

    low: float
    high: float
    held: bool | None


def claims(rows: Mapping[str, BothWorlds], known: Mapping[str, BothWorlds]) -> dict[str, Claim]:
    """The claim of every policy; none where too few others are known.

    Args:
        rows: The episodes of each policy, by what it is known by (`identity`).
        known: Of an earlier transfer; when empty, every policy is judged by the others of `rows`. A policy is never
            judged by itself.
    """
    differences = ((own, _differences(own, known or rows)) for own in rows)
    return {own: _claim(rows[own], others) for own, others in differences if others}


def informed_intervals(
    rows: Mapping[str, BothWorlds], known: Mapping[str, BothWorlds], level: float = 0.95
) -> dict[str, RealInterval]:
    """The interval of the real success rate of every policy that was played in reality; as of `claims`.

    Args:
        rows: As of `claims`.
        known: As of `claims`.
        level: How often an interval shall hold the rate.
    """
    differences = ((own, _differences(own, known or rows)) for own, row in rows.items() if row.real.success)
    return {own: _informed(rows[own], others, level) for own, others in differences if others}


def _differences(own: str, known: Mapping[str, BothWorlds]) -> list[float]:
    """By how much the log odds of others are higher in reality; none where too few are known."""
    others = [row for name, row in known.items() if name != own and row.real.success]
    return [_log_odds(row.real) - _log_odds(row.foretelling) for row in others] if len(others) >= FEWEST_KNOWN else []


def _claim(row: BothWorlds, differences: Sequence[float]) -> Claim:
    """The claim of one policy from the differences of others."""
    left_out = [float(np.median(np.delete(differences, number))) for number in range(len(differences))]
    off = np.abs(np.subtract(differences, left_out))
    place = math.ceil(LEVEL * (len(differences) + 1))
    lowest = np.sort(left_out - off)[len(differences) - place]
    highest = np.sort(left_out + off)[place - 1]
    dreamed = _log_odds(row.foretelling)
    held = lowest <= _log_odds(row.real) - dreamed <= highest if row.real.success else None
    return Claim(float(expit(dreamed + lowest)), float(expit(dreamed + highest)), None if held is None else bool(held))


def _informed(row: BothWorlds, differences: Sequence[float], level: float) -> RealInterval:
    """What the differences of others and a policy's own real episodes say together."""
    count, dreamed, true = len(differences), row.foretelling.success, row.real.success
    successes, failures = sum(true), len(true) - sum(true)
    # At least what the policy's own dreams leave open: differences of the others may be alike by chance.
    own_spread = math.sqrt(1 / (sum(dreamed) + 0.5) + 1 / (len(dreamed) - sum(dreamed) + 0.5))
    spread = max(float(np.std(differences, ddof=1)) * math.sqrt(1 + 1 / count), own_spread)
    beforehand = stats.t.logpdf(_LOG_ODDS, count - 1, _log_odds(row.foretelling) + np.mean(differences), spread)
    told = beforehand + successes * log_expit(_LOG_ODDS) + failures * log_expit(-_LOG_ODDS)
    below = np.cumsum(np.exp(told - told.max()))
    low, high = expit(np.interp([(1 - level) / 2, (1 + level) / 2], below / below[-1], _LOG_ODDS))
    return RealInterval.beside(true, float(low) if successes else 0.0, float(high) if failures else 1.0, level)


def _log_odds(played: Played) -> float:
    """Of success, with half a success and half a failure added, so that they are finite."""
    return float(logit((sum(played.success) + 0.5) / (len(played.success) + 1)))
