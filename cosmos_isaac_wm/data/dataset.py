"""How are recorded episodes read? From a Minari dataset (HDF5) of pictures and actions, anybody's.

What only ours has (positions, further arrays, scene, split) is optional.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import minari
import numpy as np
from gymnasium.spaces import Box, Space
from gymnasium.spaces import Dict as DictSpace
from numpy.typing import NDArray

from ..scene import Scene
from ..storage.paths import user_path
from .episodes import DatasetError, Episode

SPLITS = ("train", "val", "test")
METADATA_KEY = "cosmos_isaac_wm"  # under which Minari's metadata holds ours


class EpisodeDataset:
    """Random access to the episodes of a Minari dataset folder (the folder that contains `data/`).

    Args:
        path: The folder that was given to `write_dataset` or `cosmos-wm collect --out`.

    Raises:
        DatasetError: If there is no readable Minari dataset.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = user_path(path)
        data = self.path / "data" if (self.path / "data").is_dir() else self.path
        try:
            self._dataset = minari.MinariDataset(data.resolve())  # Minari joins a relative path to itself
            self._storage = self._dataset.storage
            attributes = list(self._storage.get_episode_metadata(range(self._dataset.total_episodes)))
        except (ValueError, KeyError, OSError, AssertionError) as error:
            raise DatasetError(
                f"no readable Minari dataset at {self.path}: {error}. "
                "Expected the folder that `cosmos-wm collect --out` wrote, with data/metadata.json inside."
            ) from error
        self.metadata: dict[str, Any] = self._storage.metadata.get(METADATA_KEY, {})
        self.kinds = [str(attribute.get("kind", "episode")) for attribute in attributes]
        self.seeds = [
            int(attribute.get("seed") if attribute.get("seed") is not None else -1) for attribute in attributes
        ]
        self._splits = [str(attribute.get("split", "")) for attribute in attributes]

    def __len__(self) -> int:
        return len(self.kinds)

    @property
    def scene(self) -> Scene:
        """The scene stored with the dataset, or what the spaces tell when none is stored."""
        if "scene" in self.metadata:
            return Scene.from_dict(self.metadata["scene"])
        actions, images = self._storage.action_space, _image_space(self._storage.observation_space, self.path)[1]
        if not isinstance(actions, Box) or len(actions.shape) != 1:
            raise DatasetError(f"{self.path} has actions {actions}; expected a one-dimensional Box")
        return Scene(
            name=self.path.name,
            control_hz=float(self.metadata.get("control_hz", 10.0)),
            image_size=(images.shape[0], images.shape[1]),
            action_low=tuple(map(float, actions.low)),
            action_high=tuple(map(float, actions.high)),
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
        if split != "all" and not any(self._splits):
            raise DatasetError(
                f"{self.path} has no train/val/test split; store one with "
                "`python -c \"from cosmos_isaac_wm.data import assign_splits; assign_splits('DIR', seed=0)\"`"
            )
        chosen = [i for i, name in enumerate(self._splits) if split in ("all", name)]
        if not chosen:
            raise DatasetError(f"split {split!r} of {self.path} is empty")
        return [i for i in chosen if kind is None or self.kinds[i] == kind]

    def __getitem__(self, index: int) -> Episode:
        """Read one episode.

        Raises:
            DatasetError: If the HDF5 file is damaged at this episode.
        """
        try:
            data = next(iter(self._storage.get_episodes([index])))
        except (OSError, KeyError) as error:
            raise DatasetError(f"episode {index} of {self.path} is damaged: {error}") from error
        key, _ = _image_space(self._storage.observation_space, self.path)
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
                headings[name.removesuffix("_pose")] = _heading(pose)
        return Episode(
            frames=np.asarray(data["observations"] if key is None else data["observations"][key]),
            actions=np.asarray(data["actions"], dtype=np.float32),
            kind=self.kinds[index],
            seed=self.seeds[index],
            positions=positions,
            headings=headings,
            infos=infos,
        )

    def episodes(self, indices: Iterable[int]) -> Iterator[Episode]:
        """Read episodes one after the other."""
        return (self[index] for index in indices)

    def fingerprint(self) -> str:
        """A hash of what was collected: sizes, kinds, seeds, splits and metadata; stored with whatever is fitted."""
        content = [self._dataset.total_steps, self.kinds, self.seeds, self._splits, self.metadata]
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
    for other in datasets[1:]:
        other.must_fit(datasets[0].scene, str(datasets[0].path))
    return datasets


def _heading(poses: NDArray[Any]) -> NDArray[np.float32]:
    """Angle about the vertical, (T,), of poses (x, y, z, qw, qx, qy, qz), (T, 7)."""
    w, x, y, z = np.asarray(poses, dtype=np.float64)[:, 3:].T
    return np.arctan2(2 * (w * z + x * y), 1 - 2 * (y**2 + z**2)).astype(np.float32)


def _image_space(space: Space[Any], path: Path) -> tuple[str | None, Box]:
    """The picture among the observations: (key or None, its Box)."""
    candidates = dict(space.spaces) if isinstance(space, DictSpace) else {None: space}
    for key, box in candidates.items():
        if isinstance(box, Box) and box.dtype == np.uint8 and len(box.shape) == 3 and box.shape[-1] == 3:
            return key, box
    raise DatasetError(f"{path} has no pictures: expected a uint8 observation of shape (H, W, 3), found {space}")
