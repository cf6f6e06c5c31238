"""How are recorded episodes read? From a Minari dataset (HDF5) of pictures and actions, anybody's.

What only ours has (positions, further arrays, scene, split) is optional.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import minari
import numpy as np
from numpy.typing import NDArray

from ..borders import integer
from ..scene import Scene
from ..spaces import action_bounds, action_vectors
from ..storage.paths import user_path
from ..storage.structured import one_line
from .episodes import DatasetError, Episode
from .stored import (
    DIGEST,
    METADATA_KEY,
    digest_of,
    environment_in,
    episode_must_stay_inside,
    heading,
    image_space,
    read_actions,
    read_metadata,
    without_digest,
)

SPLITS = ("train", "val", "test")


class EpisodeDataset:
    """Random access to the episodes of a Minari dataset folder (the folder that contains `data/`).

    Args:
        path: The folder that was given to `write_dataset` or `cosmos-wm collect --out`.

    Attributes:
        kinds: Kind of each episode.
        seeds: Seed of each, -1 where none is known.
        splits: "train", "val" or "test" of each, "" where there is no split.
        lengths: Steps of each, T; it has T + 1 frames.

    Raises:
        DatasetError: If there is no readable Minari dataset.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = user_path(path)
        data = self.path / "data" if (self.path / "data").is_dir() else self.path
        try:
            self.metadata = without_digest(read_metadata(data).get(METADATA_KEY, {}), self.path)
            self._dataset = minari.MinariDataset(data.resolve())  # Minari joins a relative path to itself
            self._storage = self._dataset.storage
            attributes = list(self._storage.get_episode_metadata(range(self._dataset.total_episodes)))
            self.kinds = [str(attribute.get("kind", "episode")) for attribute in attributes]
            seeds = [attribute.get("seed") for attribute in attributes]
            self.seeds = [-1 if seed is None else int(seed) for seed in seeds]
            self.splits = [str(attribute.get("split", "")) for attribute in attributes]
            self._digests = [attribute.get(DIGEST) for attribute in attributes]
            self.lengths = [int(attribute["total_steps"]) for attribute in attributes]
        except Exception as error:  # Minari meets what others have written with whatever Python raises
            raise DatasetError(
                f"no readable Minari dataset at {self.path}: {one_line(error)}. "
                "Expected the folder that `cosmos-wm collect --out` wrote, with data/metadata.json inside."
            ) from error
        self._told: set[tuple[str, int]] = set()

    def __len__(self) -> int:
        return len(self.kinds)

    @cached_property
    def scene(self) -> Scene:
        """The scene stored with the dataset, or what the spaces tell when none is stored.

        Bounds of the actions that are infinite are taken from the recorded actions.
        """
        scene = self._scene()
        low, high = (np.array(bound, np.float64) for bound in (scene.action_low, scene.action_high))
        if np.isfinite([low, high]).all():
            return scene
        recorded = np.concatenate(self.actions)
        low, high = (
            np.where(np.isfinite(bound), bound, seen)
            for bound, seen in ((low, recorded.min(axis=0)), (high, recorded.max(axis=0)))
        )
        return replace(scene, action_low=tuple(low.tolist()), action_high=tuple(high.tolist()))

    @cached_property
    def actions(self) -> list[NDArray[np.float32]]:
        """The actions of every episode, (T, A) each.

        Raises:
            DatasetError: If some cannot be learned from: damaged, of another shape, or not finite.
        """
        return read_actions(self._storage, self.lengths, len(self._scene().action_low), self.path)

    def _scene(self) -> Scene:
        """The scene as it was recorded."""
        if "scene" in self.metadata:
            try:
                return Scene.from_dict(self.metadata["scene"])
            except ValueError as error:
                raise DatasetError(f"{self.path} has no scene as it should be: {error}") from error
        images = image_space(self._storage.observation_space, self.path)[1]
        try:
            low, high = action_bounds(self._storage.action_space, str(self.path))
        except ValueError as error:
            raise DatasetError(str(error)) from error
        about = {"name": self.path.name} | environment_in(self._storage, self.path)
        return Scene(
            control_hz=float(self.metadata.get("control_hz", 10.0)),
            image_size=(images.shape[0], images.shape[1]),
            action_low=low,
            action_high=high,
            **about,
        )

    def must_fit(self, scene: Scene, whose: str) -> None:
        """Refuse to be learned from together with what belongs to another scene.

        Args:
            scene: What is expected.
            whose: What it belongs to, for the message.

        Raises:
            DatasetError: If pictures, actions, control rate or tracked objects are other ones.
        """
        for name in ("image_size", "action_low", "action_high", "control_hz", "marker_names"):
            mine, expected = getattr(self.scene, name), getattr(scene, name)
            numbers = name != "marker_names" and np.shape(mine) == np.shape(expected)
            if not (np.allclose(mine, expected) if numbers else mine == expected):
                raise DatasetError(
                    f"{self.path} has {name} {mine}, but {whose} has {expected}: data of another scene needs a "
                    "perception and a dynamics of its own"
                )

    def indices(self, split: str = "all", kind: str | None = None) -> list[int]:
        """Episode numbers of a split ("train", "val", "test" or "all"), optionally of one kind only.

        Raises:
            DatasetError: If the dataset has no such split.
        """
        if split not in (*SPLITS, "all"):
            raise DatasetError(f"unknown split {split!r}; expected one of {(*SPLITS, 'all')}")
        if split != "all":
            self.must_be_split()
        chosen = [i for i, name in enumerate(self.splits) if split in ("all", name)]
        if not chosen:
            raise DatasetError(f"split {split!r} of {self.path} is empty")
        return [i for i in chosen if kind is None or self.kinds[i] == kind]

    def must_be_split(self) -> None:
        """Refuse a dataset that does not say which episodes may be trained on."""
        if not any(self.splits):
            raise DatasetError(
                f"{self.path} has no train/val/test split; store one with "
                "`python -c \"from cosmos_isaac_wm.data import assign_splits; assign_splits('DIR', seed=0)\"`"
            )

    def held_out(self, split: str, least: int = 0) -> list[int]:
        """Episodes to judge by: those of "test" or "val" with enough frames, or else what there is, with a word.

        Args:
            split: "test" or "val".
            least: Frames that an episode must have.

        Raises:
            DatasetError: If no episode has enough frames.
        """
        for name in {"test": ("test", "val", "train"), "val": ("val", "train")}[split]:
            if enough := self.long_enough(name, least):
                if name != split:
                    unseen = "" if name == "val" else ": figures are of what was learned by heart, not of anything new"
                    _say(f"{self.path} has no {split} episodes to judge by; the {name} episodes stand in{unseen}")
                return enough
        raise DatasetError(f"{self.path} has no episode of {least} frames or more")

    def long_enough(self, split: str, least: int = 0) -> list[int]:
        """Episodes of a split, or of "all", with so many frames, maybe none; a word says once which were left out."""
        if split != "all":
            self.must_be_split()
        members = [i for i, own in enumerate(self.splits) if split in ("all", own)]
        enough = [i for i in members if self.lengths[i] + 1 >= least]
        short = sorted(set(members) - set(enough))
        if short and (split, least) not in self._told:
            self._told.add((split, least))
            _say(f"{self.path}: {split} episodes {_listed(short)} have fewer than {least} frames and are left out")
        return enough

    def __getitem__(self, index: int) -> Episode:
        """Read one episode; negative numbers count from the end.

        Raises:
            IndexError: If there is no such episode.
            DatasetError: If the HDF5 file is damaged at this episode.
        """
        if not -len(self) <= integer(index, "episode") < len(self):
            raise IndexError(f"{self.path} has episodes 0 to {len(self) - 1}, not {index}")
        index = int(index) % len(self)
        try:
            episode_must_stay_inside(self._storage, index, self.path)
            data = next(iter(self._storage.get_episodes([index])))
            told = self._digests[index]
            same = told is None or told == digest_of(data, self.kinds[index], self.seeds[index])
        except Exception as error:  # as above
            raise DatasetError(f"episode {index} of {self.path} is damaged: {error}") from error
        if not same:
            raise DatasetError(f"episode {index} of {self.path} is damaged: it is not what was written")
        key, _ = image_space(self._storage.observation_space, self.path)
        infos = dict(data["infos"] or {})
        positions = {
            name.removesuffix("_position"): np.asarray(infos.pop(name), dtype=np.float32)
            for name in sorted(infos)
            if name.endswith("_position")
        }
        headings = {
            name.removesuffix("_heading"): np.asarray(infos.pop(name), dtype=np.float32)
            for name in sorted(infos)
            if name.endswith("_heading")
        }
        for name, pose in infos.items():
            if name.endswith("_pose") and np.shape(pose)[1:] == (7,):
                headings[name.removesuffix("_pose")] = heading(pose)
        observed = {} if key is None else {name: v for name, v in data["observations"].items() if name != key}
        return Episode(
            frames=np.asarray(data["observations"] if key is None else data["observations"][key]),
            actions=action_vectors(self._storage.action_space, data["actions"]),
            kind=self.kinds[index],
            seed=self.seeds[index],
            positions=positions,
            headings=headings,
            infos=infos,
            rewards=np.asarray(data["rewards"], np.float64),
            terminations=np.asarray(data["terminations"], bool),
            truncations=np.asarray(data["truncations"], bool),
            observations=observed,
        )

    def episodes(self, indices: Iterable[int]) -> Iterator[Episode]:
        """Read episodes one after the other."""
        return (self[index] for index in indices)

    def fingerprint(self) -> str:
        """A hash of what was collected: sizes, kinds, seeds, splits and metadata; stored with whatever is fitted."""
        content = [self._dataset.total_steps, self.kinds, self.seeds, self.splits, self.metadata]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def open_datasets(folders: Sequence[Path] | Path) -> list[EpisodeDataset]:
    """Datasets to be learned from together.

    Args:
        folders: One or several.

    Raises:
        DatasetError: If there is none, one cannot be read, or they are not of one scene.
    """
    datasets = [EpisodeDataset(folder) for folder in ([folders] if isinstance(folders, Path) else folders)]
    if not datasets:
        raise DatasetError("no dataset was given; expected a folder as written by `cosmos-wm collect`, or several")
    for dataset in datasets:
        dataset.actions  # noqa: B018 (what cannot be learned from is an error now)
        low, high = np.array(dataset.scene.action_low), np.array(dataset.scene.action_high)
        if not np.isfinite([dataset._scene().action_low, dataset._scene().action_high]).all():
            _say(f"{dataset.path}: the actions have no bounds; those of the recorded ones are taken, {low} to {high}")
        if (still := np.flatnonzero(low == high)).size:
            _say(f"{dataset.path}: action dimensions {still.tolist()} have one value only and tell nothing")
    for other in datasets[1:]:
        other.must_fit(datasets[0].scene, str(datasets[0].path))
    return datasets


def _say(what: str) -> None:
    """A word on the data that is no error."""
    print(what, file=sys.stderr)


def _listed(numbers: Sequence[int]) -> str:
    """The first ten of some numbers."""
    return ", ".join(map(str, numbers[:10])) + (f" and {len(numbers) - 10} more" if len(numbers) > 10 else "")
