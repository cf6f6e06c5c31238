"""Does the interval of few real episodes hold? Drawn from a finished transfer's own, policy by policy.

    python -m tests.campaigns.few_real runs/transfer

Of every policy some real episodes are drawn as if no others had been played, once with all of the other policies' real
ones known, once with as few of theirs. What is held against an interval is the rate of all its real episodes.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tqdm import tqdm

from cosmos_isaac_wm.policies.transfer import BothWorlds, Played
from cosmos_isaac_wm.policies.transfer.claims import informed_intervals
from cosmos_isaac_wm.policies.transfer.prediction_powered import RealInterval, real_interval
from cosmos_isaac_wm.storage.structured import read
from cosmos_isaac_wm.train.transfer import Stored


def drawn(row: BothWorlds, order: np.ndarray, count: int) -> BothWorlds:
    """A policy with that many of its real episodes only, which are the first in the order of its dreamed ones."""

    def put(played: Played, places: np.ndarray) -> Played:
        return Played(success=[played.success[place] for place in places])

    dreams = {name: put(getattr(row, name), order) for name in ("dream", "clear")}
    return dataclasses.replace(row, **dreams, real=put(row.real, order[:count]))


def intervals(
    rows: Mapping[str, BothWorlds], count: int, rng: np.random.Generator
) -> dict[str, dict[str, RealInterval]]:
    """Of every policy, by how they are made."""
    few = {name: drawn(row, rng.permutation(len(row.real.success)), count) for name, row in rows.items()}
    return {
        "others known": informed_intervals(few, rows),
        "others as few": informed_intervals(few, {}),
        "prediction-powered": {
            name: real_interval(row.real.success, row.foretelling.success) for name, row in few.items()
        },
    }


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.few_real", description=__doc__)
    parser.add_argument("transfer", type=Path, help="--out of `cosmos-wm transfer`, all episodes played in both worlds")
    parser.add_argument("--count", type=int, default=20, help="real episodes of each policy")
    parser.add_argument("--draws", type=int, default=100)
    options = parser.parse_args()
    stored = [read(file, Stored) for file in sorted(options.transfer.glob("episodes_*.json"))]
    rows = {row.policy: row.both for row in stored}
    rng, found = np.random.default_rng(0), dict[str, list[tuple[bool, float]]]()
    for _ in tqdm(range(options.draws), unit="draw"):
        for made, of_each in intervals(rows, options.count, rng).items():
            for name, interval in of_each.items():
                held = interval.low <= rows[name].real.rate <= interval.high
                found.setdefault(made, []).append((held, interval.ratio))
    for made, values in found.items():
        held, ratio = np.mean(values, axis=0)
        print(f"{made}: holds in {held:.3f} of {len(values)}, {ratio:.3f} times as wide as Wilson's")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
