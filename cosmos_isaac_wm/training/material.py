"""What does a dynamics learn from? The encoded episodes of one or several datasets, and what they were seen with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..data.dataset import EpisodeDataset
from ..data.windows import EncodedEpisodes, encode_dataset, join
from ..perception import Perception


@dataclass(frozen=True)
class Material:
    """What is learned from, and what chooses the best weights.

    Attributes:
        sight: What the episodes were encoded with.
        datasets: Where they come from.
        train: Training episodes.
        val: Validation episodes.
    """

    sight: Perception
    datasets: Sequence[EpisodeDataset]
    train: EncodedEpisodes
    val: EncodedEpisodes

    @classmethod
    def of(cls, datasets: Sequence[EpisodeDataset], sight: Perception, cache: Path, mirror: bool) -> Material:
        """Encode the train and val splits, or read them from the cache.

        Args:
            datasets: One or several.
            sight: What to encode with.
            cache: Folder of encoded episodes.
            mirror: Use training episodes a second time in the mirror, where the scene allows it.

        Raises:
            DatasetError: If a dataset is not of the scene that `sight` was made for.
        """
        train, val = (
            encode_split(datasets, split, sight, cache, mirror and split == "train") for split in ("train", "val")
        )
        return cls(sight, datasets, train, val)

    def fewer(self, val: int, train: int | None = None) -> Material:
        """The first so many episodes of each kind; all training episodes when `train` is None."""
        few = self.train if train is None else _first_of_each_kind(self.train, train)
        return replace(self, train=few, val=_first_of_each_kind(self.val, val))


def encode_split(
    datasets: Sequence[EpisodeDataset], split: str, sight: Perception, cache: Path, mirror: bool
) -> EncodedEpisodes:
    """A split of several datasets as one, from the cache where it is there; mirrored too where a scene allows it."""
    for dataset in datasets:
        dataset.must_fit(sight.scene, "what this model sees with")
    latents = sight.latents_fingerprint()
    return join([encode_dataset(dataset, split, sight.encode, latents, cache, mirror) for dataset in datasets])


def _first_of_each_kind(episodes: EncodedEpisodes, count: int) -> EncodedEpisodes:
    rows = [[row for row, own in enumerate(episodes.kinds) if own == kind][:count] for kind in set(episodes.kinds)]
    return episodes.select(np.sort(np.concatenate(rows)))
