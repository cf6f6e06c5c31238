"""How are recordings of Isaac Lab's RecorderManager read? As episodes, from its HDF5 files.

Such a file holds a group for each episode under `data`, and in it arrays with a row for each step, whose keys depend on
what the task records. Isaac Lab itself is not needed to read one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from ...borders import how_to_convert
from ...scene import Scene
from ...storage.paths import user_path
from ..episodes import DatasetError, Episode

_AT_REST = 1e-3  # metres by which the height of an object that lies on a table varies at most
_UPRIGHT = np.cos(np.deg2rad(10))


@dataclass(frozen=True)
class IsaacKeys:
    """Where in an episode's group what is wanted lies.

    Attributes:
        frames: Pictures, uint8 (T, H, W, 3); a fourth channel is dropped.
        actions: Actions (T, A).
        poses: By marker name, (T, 7) of (x, y, z, quaternion), or positions (T, 2) or (T, 3), in metres.
        infos: By name, further arrays to keep, for example {"state": "states/all"}.
        after: How the keys begin whose row t is what came of action t; that of all others is what was there before it.
            Isaac Lab's recorder terms write observations before the step, and states after it.
        quaternion: Order of components, "xyzw" or "wxyz"; what the file says when None.
    """

    frames: str = "obs/rgb"
    actions: str = "actions"
    poses: dict[str, str] = field(default_factory=dict)
    infos: dict[str, str] = field(default_factory=dict)
    after: tuple[str, ...] = ("states",)
    quaternion: Literal["xyzw", "wxyz"] | None = None


class IsaacFile:
    """A RecorderManager's file, opened to read episodes of a scene.

    Args:
        path: The HDF5 file.
        keys: Where what is wanted lies.

    Attributes:
        lengths: Steps of every episode by its name; those that are too short to lead anywhere are left out.
        left_out: How many were.
        quaternion: Order of components.

    Raises:
        DatasetError: If it is no such file, is damaged, or lacks what was asked for; says what it has.
    """

    def __init__(self, path: str | os.PathLike[str], keys: IsaacKeys):
        self.path, self.keys = user_path(path), keys
        if not self.path.is_file():
            raise DatasetError(f"there is no file {self.path}")
        try:
            self._file = h5py.File(self.path, "r")
        except OSError as error:
            raise DatasetError(
                f"{self.path} is no HDF5 file, or a truncated one ({error}); was it copied before its recorder closed?"
            ) from error
        try:
            self._survey()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def fingerprint(self) -> str:
        """A hash of the whole file."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]

    def _survey(self) -> None:
        """See what there is."""
        keys = self.keys
        if "data" not in self._file or not len(self._file["data"]):
            raise DatasetError(
                f"{self.path} has no episodes: expected groups such as data/demo_0, as RecorderManager writes"
            )
        names = sorted(self._file["data"], key=lambda name: (len(name), name))
        first = self._group(names[0])
        wanted = {"frames": keys.frames, "actions": keys.actions}
        wanted |= {f"poses.{name}": key for name, key in keys.poses.items()}
        wanted |= {f"infos.{name}": key for name, key in keys.infos.items()}
        missing = [
            f"{option} {key!r}" for option, key in wanted.items() if not isinstance(first.get(key), h5py.Dataset)
        ]
        if missing:
            raise DatasetError(
                f"{self.path} has no {', no '.join(missing)} in data/{names[0]}; it has:\n{_listing(first)}"
            )
        since = int(self._file.attrs.get("format_version", 0))  # 1 and later: (x, y, z, w)
        self.quaternion = keys.quaternion or ("xyzw" if since >= 1 else "wxyz")
        lost = sum(self._unknown())
        if without := [name for name in names if keys.actions not in self._group(name)]:
            raise DatasetError(f"{self.path} has no {keys.actions!r} in data/{without[0]}, unlike in data/{names[0]}")
        steps = {name: len(self._group(name)[keys.actions]) - lost for name in names}
        self.lengths = {name: length for name, length in steps.items() if length > 0}
        self.left_out = len(steps) - len(self.lengths)
        if not self.lengths:
            raise DatasetError(f"{self.path} has no episode of more than {lost} steps")

    def _is_after(self, key: str) -> bool:
        return key.startswith(tuple(self.keys.after))

    def _unknown(self) -> tuple[int, int]:
        """How many of an episode's T + 1 moments some array does not show, at the beginning and at the end."""
        keys = [self.keys.frames, *self.keys.poses.values(), *self.keys.infos.values()]
        return int(any(map(self._is_after, keys))), int(not all(map(self._is_after, keys)))

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the pictures.

        Raises:
            DatasetError: If they are none.
        """
        frames = self._group(next(iter(self.lengths)))[self.keys.frames]
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] not in (3, 4):
            raise DatasetError(
                f"{self.keys.frames!r} of {self.path} is {frames.dtype} {frames.shape}; expected uint8 (T, H, W, 3): "
                f"record the camera's rgb without normalising it{how_to_convert(frames.dtype, frames.shape)}"
            )
        return int(frames.shape[1]), int(frames.shape[2])

    @property
    def action_dim(self) -> int:
        """Number of action dimensions, A."""
        actions = self._group(next(iter(self.lengths)))[self.keys.actions]
        return int(actions.shape[-1]) if actions.ndim > 1 else 1  # a number a step is an action of one dimension

    def episodes(self, scene: Scene, kind: str = "episode") -> Iterator[Episode]:
        """All episodes.

        Args:
            scene: What they are of; its image size, actions and markers are checked.
            kind: What sort of episodes they are.

        Raises:
            DatasetError: If an episode does not fit the scene, or is damaged.
        """
        for name in self.lengths:
            yield self._episode(name, scene, kind)

    def _group(self, name: str) -> Any:
        return self._file["data"][name]

    def _episode(self, name: str, scene: Scene, kind: str) -> Episode:
        group, keys, where = self._group(name), self.keys, f"{name} of {self.path}"
        actions = np.asarray(group[keys.actions], np.float32)
        actions = actions[:, None] if actions.ndim == 1 else actions
        if actions.shape[1:] != (scene.action_dim,):
            raise DatasetError(
                f"{where} has actions of shape {actions.shape}, the first one of (T, {scene.action_dim})"
            )
        first, beyond = self._unknown()

        def moments(key: str) -> NDArray[Any]:
            """The rows of those moments that all arrays show; row t is of moment t + 1 where it came after."""
            rows = np.asarray(group[key])
            if len(rows) != len(actions):
                raise DatasetError(f"{where} has {len(actions)} actions, but {key!r} has {len(rows)} rows")
            shift = int(self._is_after(key))
            return rows[first - shift : len(rows) + 1 - beyond - shift]

        try:
            frames = moments(keys.frames)[..., :3]
            poses = {marker: moments(key).astype(np.float64) for marker, key in keys.poses.items()}
            infos = {info: moments(key) for info, key in keys.infos.items()}
        except (KeyError, OSError, RuntimeError) as error:
            raise DatasetError(f"{where} is damaged or lacks what others have: {error}") from error
        if frames.shape[1:] != (*scene.image_size, 3) or frames.dtype != np.uint8:
            raise DatasetError(
                f"{where} has pictures {frames.dtype} {frames.shape[1:]}, the first one uint8 {(*scene.image_size, 3)}"
            )
        low, high = np.array(scene.action_low, np.float32), np.array(scene.action_high, np.float32)
        if not np.isfinite(actions).all() or (actions < low - 1e-4).any() or (actions > high + 1e-4).any():
            raise DatasetError(
                f"{where} has actions from {actions.min(axis=0)} to {actions.max(axis=0)}, outside of {low} to {high}: "
                "say --action_low and --action_high"
            )
        for marker, pose in poses.items():
            _check_pose(pose, f"{keys.poses[marker]!r} of {where}", self.quaternion)
            if pose.shape[1] == 7:
                quaternion = pose[:, 3:] if self.quaternion == "wxyz" else np.roll(pose[:, 3:], 1, axis=1)
                infos[f"{marker}_pose"] = np.concatenate([pose[:, :3], quaternion], axis=1)
        between = actions[first : len(actions) - beyond]
        positions = {marker: pose[:, :2].astype(np.float32) for marker, pose in poses.items()}
        seed = int(group.attrs.get("seed", -1))
        return Episode(frames, between.clip(low, high), kind, seed, positions, infos)


def _check_pose(pose: NDArray[np.float64], where: str, order: str) -> None:
    """Say so if an array holds no poses, or quaternions in the other order."""
    if pose.ndim != 2 or pose.shape[1] not in (2, 3, 7) or not np.isfinite(pose).all():
        raise DatasetError(f"{where} is {pose.shape} or not finite; expected (T, 2), (T, 3) or (T, 7) in metres")
    if pose.shape[1] != 7:
        return
    if np.abs(np.linalg.norm(pose[:, 3:], axis=1) - 1).max() > 1e-2:
        raise DatasetError(f"{where} has quaternions that are not of length 1; expected (x, y, z, quaternion)")
    as_said, otherwise = _upright(pose, order == "xyzw"), _upright(pose, order != "xyzw")
    if np.ptp(pose[:, 2]) < _AT_REST and otherwise.min() > _UPRIGHT and as_said.min() < _UPRIGHT:
        raise DatasetError(
            f"{where} turns over while it stays at its height, if its quaternions are {order}; read the other way it "
            f"only turns about the vertical: say --keys.quaternion {'wxyz' if order == 'xyzw' else 'xyzw'}"
        )


def _upright(pose: NDArray[np.float64], scalar_last: bool) -> NDArray[np.float64]:
    """Cosine of the angle between the object's own z axis and the vertical, (T,)."""
    x, y = pose[:, 3:5].T if scalar_last else pose[:, 4:6].T
    return np.abs(1 - 2 * (x**2 + y**2))


def _listing(group: Any) -> str:
    """Every array of a group, a line each."""
    lines: list[str] = []

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            lines.append(f"  {name}: {item.dtype} {item.shape}")

    group.visititems(note)
    return "\n".join(lines)
