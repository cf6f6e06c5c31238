"""What does a dynamics learn from? The encoded episodes of one or several datasets, and what they were seen with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..contexts import BEGINNING, Contexts
from ..data.dataset import EpisodeDataset
from ..data.episodes import DatasetError
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
        unseen: Whether these are no training episodes.
    """

    sight: Perception
    datasets: Sequence[EpisodeDataset]
    train: EncodedEpisodes
    val: EncodedEpisodes
    unseen: bool = True

    @classmethod
    def of(
        cls, datasets: Sequence[EpisodeDataset], sight: Perception, cache: Path, mirror: bool, least: int
    ) -> Material:
        """Encode the train and val splits, or read them from the cache.

        Episodes that are too short are left out, with a word. Those of a foreign environment may be: they are taken
        as if everything had rested before their first frame, so that dreams may begin where the environment does.
        Where there is nothing to validate on, the training episodes stand in.

        Args:
            datasets: One or several.
            sight: What to encode with.
            cache: Folder of encoded episodes.
            mirror: Use training episodes a second time in the mirror, where the scene allows it.
            least: Frames to be learned from: the context and one more.

        Raises:
            DatasetError: If a dataset is not of the scene that `sight` was made for, or no training episode is long
                enough.
        """
        rest = least - 2 if sight.scene.environment is not None else 0
        least -= rest
        enough = {split: [each.long_enough(split, least) for each in datasets] for split in ("train", "val")}
        if not any(enough["train"]):
            names = ", ".join(str(each.path) for each in datasets)
            raise DatasetError(f"no training episode of {names} has {least} frames")
        unseen = any(enough["val"])
        train = _long_enough(encode_split(datasets, "train", sight, cache, mirror), least).rested(rest)
        if not unseen:
            print("no episodes to validate on: training episodes stand in, which says what was learned by heart")
            return cls(sight, datasets, train, train, unseen=False)
        val = _long_enough(encode_split(datasets, "val", sight, cache, mirror=False), least).rested(rest)
        return cls(sight, datasets, train, val)

    def learning_from(self, others: Sequence[EpisodeDataset], cache: Path, least: int) -> Material:
        """The same with training episodes of other datasets; arguments as of `of`."""
        return replace(self, train=Material.of(others, self.sight, cache, mirror=False, least=least).train)

    def origin(self) -> dict[str, Any]:
        """Where it comes from, for a bundle to tell."""
        simulators = dict.fromkeys(dataset.metadata.get("simulator", "unknown") for dataset in self.datasets)
        return {
            "data": [dataset.fingerprint() for dataset in self.datasets],
            "simulator": " and ".join(simulators),
        }

    def fewer(self, val: int, train: int | None = None) -> Material:
        """The first so many episodes of each kind; all training episodes when `train` is None."""
        few = self.train if train is None else _first_of_each_kind(self.train, train)
        return replace(self, train=few, val=_first_of_each_kind(self.val, val))


def encode_split(
    datasets: Sequence[EpisodeDataset], split: str, sight: Perception, cache: Path, mirror: bool
) -> EncodedEpisodes:
    """A split of those datasets that have it as one, from the cache where it is there; mirrored too if asked for."""
    for dataset in datasets:
        dataset.must_fit(sight.scene, "what this model sees with")
    latents = sight.latents_fingerprint()
    having = [dataset for dataset in datasets if dataset.long_enough(split)]
    return join([encode_dataset(dataset, split, sight.encode, latents, cache, mirror) for dataset in having])


def _long_enough(episodes: EncodedEpisodes, least: int) -> EncodedEpisodes:
    return episodes.select(np.flatnonzero(episodes.lengths.numpy() >= least))


def _first_of_each_kind(episodes: EncodedEpisodes, count: int) -> EncodedEpisodes:
    rows = [[row for row, own in enumerate(episodes.kinds) if own == kind][:count] for kind in set(episodes.kinds)]
    return episodes.select(np.sort(np.concatenate(rows)))


def draw_contexts(dataset: EpisodeDataset, encoded: EncodedEpisodes, length: int, count: int, seed: int) -> Contexts:
    """Random windows of encoded training episodes, of which the dataset's own, unmirrored, come first.

    With the simulator state of their last frame where it is known. Of a foreign environment the first frames of as
    many episodes, at rest, stand before them, of the kind "start": there it begins itself.
    """
    rng = np.random.default_rng(seed)
    available = min(len(dataset.long_enough("train", length + 1 - encoded.rest)), len(encoded))
    rows = np.sort(rng.choice(available, min(count, available), replace=False))
    starts = [int(rng.integers(0, int(encoded.lengths[row]) - length)) for row in rows]
    kinds = [encoded.kinds[row] for row in rows]
    if dataset.scene.environment is not None:
        starts, kinds = [0] * len(rows) + starts, [BEGINNING] * len(rows) + kinds
        rows = np.concatenate([rows, rows])
    indices, states = encoded.sources[rows].tolist(), []
    for index, last in zip(indices, (start + length - 1 - encoded.rest for start in starts), strict=True):
        known = dataset[index].infos.get("state")
        states.append(torch.empty(0, dtype=torch.float64) if known is None else torch.tensor(known[last]))
    return Contexts(
        latents=torch.stack([encoded.latents[row, s : s + length] for row, s in zip(rows, starts, strict=True)]),
        positions=torch.stack([encoded.positions[row, s : s + length] for row, s in zip(rows, starts, strict=True)]),
        states=torch.stack([_pad_nan(state, max(map(len, states))) for state in states]),
        episodes=torch.tensor(indices),
        starts=torch.tensor(starts) - encoded.rest,
        kinds=kinds,
    )


def _pad_nan(state: torch.Tensor, length: int) -> torch.Tensor:
    return torch.cat([state.double(), torch.full((length - len(state),), torch.nan, dtype=torch.float64)])
