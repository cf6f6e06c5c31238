"""Which episodes may be trained on, and which judge?"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from .dataset import SPLITS, EpisodeDataset


def assign_splits(path: str | os.PathLike[str], seed: int, shares: tuple[float, float] = (0.8, 0.1)) -> list[str]:
    """Store an 80/10/10 split by episode in an existing dataset and return it."""
    dataset = EpisodeDataset(path)
    splits = draw_splits(dataset.kinds, seed, shares)
    dataset._storage.update_episode_metadata([{"split": split} for split in splits], range(len(splits)))
    return splits


def draw_splits(kinds: Sequence[str], seed: int, shares: tuple[float, float] = (0.8, 0.1)) -> list[str]:
    """Draw train/val/test per episode, each kind in the same proportions; `shares` are those of train and val.

    Three episodes of a kind or more have one in each; of two, one is for training and one for validation.
    """
    rng = np.random.default_rng(seed)
    splits = np.empty(len(kinds), dtype=object)
    for kind in sorted(set(kinds)):
        members = rng.permutation([i for i, name in enumerate(kinds) if name == kind])
        ends = np.round(np.cumsum(shares) * len(members)).astype(int)
        if len(members) >= 3:  # one for val and one for test at least
            ends = np.minimum(ends, [len(members) - 2, len(members) - 1])
        elif len(members) == 2:
            ends = np.array([1, 2])
        for name, part in zip(SPLITS, np.split(members, ends), strict=True):
            splits[part] = name
    return [str(name) for name in splits]
