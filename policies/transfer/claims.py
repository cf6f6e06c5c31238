"""What real success does a dream claim of a policy that it alone has seen? Its own, off by what it was off for others.

The jackknife+ (Barber, Candès, Ramdas, Tibshirani, arXiv 1905.02928), over policies that were played in both worlds: by
how much were the log odds of their success lower in reality? Log odds, so that nothing leaves 0 to 1, and 0.98 may be
off by less than 0.7.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from .both_worlds import BothWorlds
from .playing import Played

LEVEL = 0.9  # how often a claim shall hold
FEWEST_KNOWN = 9  # policies, for one interval of that level; of fewer not even the worst tells as much


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
    found = {}
    for own, row in rows.items():
        others = [other for name, other in (known or rows).items() if name != own and other.real.success]
        if len(others) >= FEWEST_KNOWN:
            found[own] = _claim(row, [_log_odds(other.real) - _log_odds(other.dream) for other in others])
    return found


def _claim(row: BothWorlds, shifts: Sequence[float]) -> Claim:
    """The claim of one policy from how far the log odds of others shifted."""
    left_out = [float(np.median(np.delete(shifts, number))) for number in range(len(shifts))]
    off = np.abs(np.subtract(shifts, left_out))
    place = math.ceil(LEVEL * (len(shifts) + 1))
    lowest = np.sort(left_out - off)[len(shifts) - place]
    highest = np.sort(left_out + off)[place - 1]
    dreamed = _log_odds(row.dream)
    held = lowest <= _log_odds(row.real) - dreamed <= highest if row.real.success else None
    return Claim(float(expit(dreamed + lowest)), float(expit(dreamed + highest)), None if held is None else bool(held))


def _log_odds(played: Played) -> float:
    """Of success, with half a success and half a failure added, so that they are finite."""
    return float(logit((sum(played.success) + 0.5) / (len(played.success) + 1)))
