"""How are episodes written? As a Minari dataset, whole or not at all.

Frames are lossless: Minari's raw images, in gzip chunks that run along time, where a fixed camera repeats itself.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import minari
import numpy as np
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage
from numpy.typing import NDArray

from ..borders import how_to_convert
from ..scene import Scene
from ..spaces import own_actions
from ..storage.atomic import must_have_room, replacing_folder
from ..storage.paths import user_path
from .dataset import SPLITS, EpisodeDataset
from .episodes import DatasetError, Episode
from .stored import DIGEST, METADATA_KEY, digest_of, leaves, spaces_of, with_digest


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
        DatasetError: If there is no episode, an episode's shapes do not fit the scene, or splits or metadata are not
            what they should be.
    """
    path = user_path(path)
    if (path / "data").exists():
        raise FileExistsError(f"{path} already holds a dataset; choose another folder")
    _check_beside(splits, metadata)
    path.mkdir(parents=True, exist_ok=True)
    observation_space, action_space, picture = spaces_of(scene)
    with replacing_folder(path.resolve() / "data") as temporary:  # Minari joins a relative path to itself
        storage = MinariStorage.new(
            temporary,
            observation_space=observation_space,
            action_space=action_space,
            data_format="hdf5",
            jpeg_encoding=False,
        )
        for index, (episode, split) in enumerate(_with_splits(episodes, splits)):
            _append(storage, index, episode, scene, picture, split)
        ours = with_digest({"scene": scene.to_dict(), **(metadata or {})})
        about = {"dataset_id": dataset_id, "minari_version": minari.__version__, METADATA_KEY: ours}
        if scene.environment is not None and scene.environment.spec is not None:
            about["env_spec"] = scene.environment.spec  # from which Minari's `recover_environment` makes it
        storage.update_metadata(about)
    return path


def _with_splits(episodes: Iterable[Episode], splits: Sequence[str] | None) -> Iterator[tuple[Episode, str]]:
    """Each episode with its split, "" where there are none.

    Raises:
        DatasetError: If there are none at all, or not as many as splits.
    """
    count = 0
    for episode in episodes:
        if splits is not None and count >= len(splits):
            raise DatasetError(f"there are more episodes than the {len(splits)} splits")
        yield episode, "" if splits is None else splits[count]
        count += 1
    if not count or (splits is not None and count != len(splits)):
        raise DatasetError(f"expected {'an episode' if splits is None else len(splits)}, got {count} episodes")


def ship(dataset: EpisodeDataset, folder: Path, count: int) -> None:
    """Copy the first held-out episodes, in equal numbers per kind, as a dataset whose every episode is `test`.

    Args:
        dataset: Where its test split is.
        folder: Of the copy.
        count: How many episodes; rounded up to equal numbers.
    """
    kinds = sorted(set(dataset.kinds))
    chosen = [index for kind in kinds for index in dataset.indices("test", kind)[: -(-count // len(kinds))]]
    metadata = {key: value for key, value in dataset.metadata.items() if key != "scene"}
    write_dataset(
        folder, dataset.episodes(chosen), dataset.scene, ["test"] * len(chosen), {**metadata, "sources": chosen}
    )


def _append(
    storage: MinariStorage, index: int, episode: Episode, scene: Scene, picture: str | None, split: str
) -> None:
    """Add an episode, whose pictures have a key or stand alone, to what is being written."""
    shape = (*scene.image_size, 3)
    steps, actions, infos = len(episode), *_checked(storage, index, episode, scene)
    must_have_room(storage.data_path, 2 * np.asarray(episode.frames).nbytes)  # a full disk crashes HDF5
    # Minari appends to an existing array and keeps its filters: creating it first is how to have it compressed.
    with h5py.File(storage.data_path / "main_data.hdf5", "a", track_order=True) as file:
        file.create_group(f"episode_{index}").create_dataset(
            "observations" if picture is None else f"observations/{picture}",
            shape=(0, *shape),
            maxshape=(None, *shape),
            chunks=(steps + 1, min(2, shape[0]), *shape[1:]),
            dtype=np.uint8,
            compression="gzip",
            compression_opts=6,
        )
    data: dict[str, Any] = {
        "observations": episode.frames if picture is None else {**episode.observations, picture: episode.frames},
        "actions": actions,
        "rewards": [0.0] * steps if episode.rewards is None else list(episode.rewards),
        "terminations": [False] * steps if episode.terminations is None else list(episode.terminations),
        "truncations": [False] * (steps - 1) + [True] if episode.truncations is None else list(episode.truncations),
        "infos": infos,
    }
    storage.update_episodes([EpisodeBuffer(id=index, seed=episode.seed if episode.seed >= 0 else None, **data)])
    about = {"kind": episode.kind, "split": split, DIGEST: digest_of(data, episode.kind, episode.seed)}
    storage.update_episode_metadata([about], [index])


def _check_beside(splits: Sequence[str] | None, metadata: dict[str, Any] | None) -> None:
    """Refuse, before the work, splits and metadata that could not be stored.

    Raises:
        DatasetError: If a split is unknown, or metadata is no JSON or says what the scene says.
    """
    if isinstance(splits, str) or not set(splits or ()) <= {*SPLITS, ""}:
        raise DatasetError(f"splits are one of {SPLITS} for each episode, got {splits!r}")
    try:
        json.dumps(metadata)
    except (TypeError, ValueError) as error:
        raise DatasetError(f"metadata must be JSON values: {error}") from error
    if "scene" in (metadata or {}):
        raise DatasetError("metadata has a 'scene'; that is stored from the argument of this name")


def _checked(
    storage: MinariStorage, index: int, episode: Episode, scene: Scene
) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
    """An episode's actions as the dataset's space has them, and everything else by the name it is stored under.

    Raises:
        DatasetError: If something is of another shape or type than expected.
    """
    steps, actions, shape = len(episode), np.asarray(episode.actions), (*scene.image_size, 3)
    frames = np.asarray(episode.frames)
    if frames.shape != (steps + 1, *shape) or frames.dtype != np.uint8 or not steps:
        raise DatasetError(
            f"episode {index} has frames {frames.dtype} {frames.shape} and {steps} actions; "
            f"expected uint8 {(steps + 1, *shape)}, and an action at least{how_to_convert(frames.dtype, frames.shape)}"
        )
    if actions.ndim == 1 and scene.action_dim == 1:
        actions = actions[:, None]
    if actions.shape != (steps, scene.action_dim):
        raise DatasetError(f"episode {index} has actions {episode.actions.shape}; expected {(steps, scene.action_dim)}")
    positions = {f"{name}_position": values for name, values in episode.positions.items()}
    headings = {
        f"{name}_heading": values for name, values in episode.headings.items() if f"{name}_pose" not in episode.infos
    }
    if actions.dtype.kind not in "biuf" or not np.isfinite(actions).all():
        raise DatasetError(f"episode {index} has actions that are not finite numbers ({actions.dtype})")
    infos = {name: np.asarray(values) for name, values in {**positions, **headings, **episode.infos}.items()}
    for name, values in infos.items():
        expected = (steps + 1, 2) if name in positions else (steps + 1, *values.shape[1:])
        if values.shape != expected or values.dtype.kind not in "biuf":
            raise DatasetError(
                f"episode {index} has {name!r} {values.dtype} of shape {values.shape}; expected numbers, one row per "
                f"frame, {steps + 1}{' of (x, y)' if name in positions else ''}"
            )
    for name in ("rewards", "terminations", "truncations"):
        told = getattr(episode, name)
        if told is not None and np.shape(told) != (steps,):
            raise DatasetError(f"episode {index} has {name} of shape {np.shape(told)}; expected {(steps,)}")
    if scene.environment is not None:
        for name, values in leaves("observations", episode.observations):
            if len(values) != steps + 1:
                raise DatasetError(f"episode {index} has {name} of {len(values)} rows; expected {steps + 1}")
    return own_actions(storage.action_space, actions) if scene.environment is not None else actions, infos
