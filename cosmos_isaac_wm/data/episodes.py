"""Episodes on disk: a Minari dataset (HDF5) of frames and actions, with positions, states and splits where known.

Frames are lossless: Minari's raw images, in gzip chunks that run along time, where a fixed camera repeats itself.
Any Minari dataset of pictures and actions can be read; what only ours has (`infos`, scene, split) is optional.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import minari
import numpy as np
from gymnasium.spaces import Box
from gymnasium.spaces import Dict as DictSpace
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage
from numpy.typing import NDArray

from ..scene import Scene

SPLITS = ("train", "val", "test")
_METADATA_KEY = "cosmos_isaac_wm"


@dataclass(frozen=True)
class Episode:
    """One recorded episode of T + 1 frames and T actions.

    Attributes:
        frames: RGB pictures, uint8 (T + 1, H, W, 3).
        actions: `actions[t]` leads from frame t to frame t + 1, float32 (T, A).
        kind: What sort of episode it is, for example "push" or "slide".
        seed: Seed it was collected with, or -1.
        positions: (x, y) in metres by marker name, float32 (T + 1, 2); a marker absent from the scene has no entry.
        infos: Further arrays with a first axis of T + 1, for example "state", or "<marker>_pose" as (x, y, z, qw, qx,
            qy, qz), from which a stored episode's headings are read.
        headings: Angle about the vertical in radians by marker name, float32 (T + 1,), where it is known; stored as
            "<marker>_heading" where there is no pose.
    """

    frames: NDArray[np.uint8]
    actions: NDArray[np.float32]
    kind: str = "episode"
    seed: int = -1
    positions: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    infos: dict[str, NDArray[Any]] = field(default_factory=dict)
    headings: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.actions)

    def marker_positions(self, names: Sequence[str]) -> NDArray[np.float32]:
        """Positions (T + 1, N, 2) of the named markers in metres, NaN where a marker is absent."""
        positions = np.full((len(self.frames), len(names), 2), np.nan, dtype=np.float32)
        for index, name in enumerate(names):
            if name in self.positions:
                positions[:, index] = self.positions[name]
        return positions

    def marker_headings(self, scene: Scene) -> NDArray[np.float32]:
        """Headings (T + 1, N, 2) of the scene's markers: cosine and sine of `symmetry` x angle, NaN if unknown."""
        headings = np.full((len(self.frames), len(scene.markers), 2), np.nan, dtype=np.float32)
        for index, marker in enumerate(scene.markers):
            if marker.symmetry and marker.name in self.headings:
                angle = marker.symmetry * self.headings[marker.name]
                headings[:, index] = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
        return headings


class DatasetError(ValueError):
    """A dataset is missing, damaged, or lacks what was asked of it."""


class EpisodeDataset:
    """Random access to the episodes of a Minari dataset folder (the folder that contains `data/`).

    Args:
        path: The folder that was given to `write_dataset` or `cosmos-wm collect --out`.

    Raises:
        DatasetError: If there is no readable Minari dataset.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
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
        self.metadata: dict[str, Any] = self._storage.metadata.get(_METADATA_KEY, {})
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


def _image_space(space: Any, path: Path) -> tuple[str | None, Box]:
    """The picture among the observations: (key or None, its Box)."""
    candidates = dict(space.spaces) if isinstance(space, DictSpace) else {None: space}
    for key, box in candidates.items():
        if isinstance(box, Box) and box.dtype == np.uint8 and len(box.shape) == 3 and box.shape[-1] == 3:
            return key, box
    raise DatasetError(f"{path} has no pictures: expected a uint8 observation of shape (H, W, 3), found {space}")


def write_dataset(
    path: str | os.PathLike[str],
    episodes: Iterable[Episode],
    scene: Scene,
    splits: Sequence[str] | None = None,
    metadata: dict[str, Any] | None = None,
    dataset_id: str = "cosmos-isaac-wm/episodes-v0",
) -> Path:
    """Write episodes as a Minari dataset, all or nothing: a temporary folder is renamed at the end.

    Args:
        path: Folder to create; must not hold a dataset yet.
        episodes: Episodes, read one at a time.
        scene: Stored in the metadata, with which the dataset explains itself.
        splits: One of "train", "val", "test" per episode, or None for a dataset without a split.
        metadata: Further JSON values, for example the simulator's.
        dataset_id: The Minari id.

    Raises:
        FileExistsError: If `path` already holds a dataset.
        DatasetError: If an episode's shapes do not fit the scene.
    """
    path = Path(path)
    if (path / "data").exists():
        raise FileExistsError(f"{path} already holds a dataset; choose another folder")
    path.mkdir(parents=True, exist_ok=True)
    temporary = path.resolve() / f".writing-{os.getpid()}"  # Minari joins a relative path to itself
    shutil.rmtree(temporary, ignore_errors=True)
    shape = (*scene.image_size, 3)
    try:
        storage = MinariStorage.new(
            temporary,
            observation_space=Box(0, 255, shape, np.uint8),
            action_space=Box(np.array(scene.action_low, np.float32), np.array(scene.action_high, np.float32)),
            data_format="hdf5",
            jpeg_encoding=False,
        )
        for index, episode in enumerate(episodes):
            _append(storage, index, episode, shape, "" if splits is None else splits[index])
        storage.update_metadata(
            {
                "dataset_id": dataset_id,
                "minari_version": minari.__version__,
                _METADATA_KEY: {"scene": scene.to_dict(), **(metadata or {})},
            }
        )
        temporary.rename(path / "data")
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return path


def _append(storage: MinariStorage, index: int, episode: Episode, shape: tuple[int, ...], split: str) -> None:
    steps = len(episode)
    if episode.frames.shape != (steps + 1, *shape) or episode.frames.dtype != np.uint8:
        raise DatasetError(
            f"episode {index} has frames {episode.frames.dtype} {episode.frames.shape} and {steps} actions; "
            f"expected uint8 {(steps + 1, *shape)}"
        )
    if episode.actions.shape != (steps, *storage.action_space.shape):
        raise DatasetError(
            f"episode {index} has actions {episode.actions.shape}; expected {(steps, *storage.action_space.shape)}"
        )
    positions = {f"{name}_position": values for name, values in episode.positions.items()}
    headings = {
        f"{name}_heading": values for name, values in episode.headings.items() if f"{name}_pose" not in episode.infos
    }
    infos = {**positions, **headings, **episode.infos}
    for name, values in infos.items():
        if len(values) != steps + 1:
            raise DatasetError(
                f"episode {index} has {name!r} of shape {values.shape}; expected one row per frame, {steps + 1}"
            )
    # Minari appends to an existing array and keeps its filters: creating it first is how to have it compressed.
    with h5py.File(storage.data_path / "main_data.hdf5", "a", track_order=True) as file:
        file.create_group(f"episode_{index}").create_dataset(
            "observations",
            shape=(0, *shape),
            maxshape=(None, *shape),
            chunks=(steps + 1, min(2, shape[0]), *shape[1:]),
            dtype=np.uint8,
            compression="gzip",
            compression_opts=6,
        )
    storage.update_episodes(
        [
            EpisodeBuffer(
                id=index,
                seed=episode.seed if episode.seed >= 0 else None,
                observations=episode.frames,  # type: ignore[arg-type]  # any sequence of frames is written alike
                actions=episode.actions,  # type: ignore[arg-type]
                rewards=[0.0] * steps,
                terminations=[False] * steps,
                truncations=[False] * (steps - 1) + [True],
                infos=infos,
            )
        ]
    )
    storage.update_episode_metadata([{"kind": episode.kind, "split": split}], [index])


def assign_splits(path: str | os.PathLike[str], seed: int, shares: tuple[float, float] = (0.8, 0.1)) -> list[str]:
    """Store an 80/10/10 split by episode in an existing dataset and return it."""
    dataset = EpisodeDataset(path)
    splits = draw_splits(dataset.kinds, seed, shares)
    dataset._storage.update_episode_metadata([{"split": split} for split in splits], range(len(splits)))
    return splits


def draw_splits(kinds: Sequence[str], seed: int, shares: tuple[float, float] = (0.8, 0.1)) -> list[str]:
    """Draw train/val/test per episode, each kind in the same proportions; `shares` are those of train and val."""
    rng = np.random.default_rng(seed)
    splits = np.empty(len(kinds), dtype=object)
    for kind in sorted(set(kinds)):
        members = rng.permutation([i for i, name in enumerate(kinds) if name == kind])
        ends = np.round(np.cumsum(shares) * len(members)).astype(int)
        for name, part in zip(SPLITS, np.split(members, ends), strict=True):
            splits[part] = name
    return [str(name) for name in splits]
