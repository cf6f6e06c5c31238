"""How is a LeRobotDataset v3 read? As episodes of pictures, actions, states and rewards.

A row holds what was seen, the action that was taken then, and what came of it. What the last action of an episode led
to was not seen: an episode of N rows has N pictures and N - 1 actions.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from functools import cached_property
from typing import Any

import numpy as np
from gymnasium import spaces
from minari.serialization import serialize_space
from numpy.typing import NDArray

from ...resizing import recorded_size, resized
from ...scene import Environment, Scene
from ...spaces import STATE as OBSERVED
from ...spaces import Space, action_bounds, action_vectors
from ...storage.paths import user_path
from ..dataset import SPLITS
from ..episodes import DatasetError, Episode
from ..splits import draw_splits
from . import layout
from .survey import Survey, read_info
from .tables import read_table, task_names
from .video import frames_from

_MOST_CHOICES = 1000


class LeRobotFolder:
    """A LeRobotDataset v3 on disk, surveyed: what cannot be read is an error before the first episode.

    Args:
        path: Its folder, with meta/info.json in it.
        cameras: Which to see, side by side from left to right, "top" short for "observation.images.top"; the only one
            when None.
        state: The feature that is the vector observation; None to do without.
        rows: Rows of the pictures; 64 when None, and no more than they have.

    Attributes:
        cameras: As they are called in the dataset.
        indices: Its episodes; those of a single row, in which nothing happens, are left out.
        left_out: How many were.

    Raises:
        DatasetError: If it is none, of another version, damaged, lacks what was asked for, or its videos do not fit.
        ImportError: If what reads it is not installed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        cameras: Sequence[str] | None = None,
        state: str | None = layout.STATE,
        rows: int | None = None,
    ):
        layout.must_be_installed()
        self.path, self._state = user_path(path), state
        self._info = read_info(self.path)
        self._features: dict[str, Any] = self._info["features"]
        self.cameras = self._chosen(cameras)
        whole = [layout.picture_size(camera, self._features[camera]) for camera in self.cameras]
        self._sizes = [recorded_size((*size, 3), rows) for size in whole]
        if len({height for height, _ in self._sizes}) > 1:
            raise DatasetError(f"pictures of {self._sizes} cannot be put side by side: ask for fewer --size rows")
        self._tasks = task_names(self.path / layout.TASKS)
        told = [name for name in (layout.REWARD, layout.DONE, layout.SUCCESS) if name in self._features]
        self._survey = Survey(self.path, self._info, self.cameras, [*self._vectors(), *told])
        self.indices = np.flatnonzero(self._survey.lengths > 1)
        self.left_out = len(self._survey.lengths) - len(self.indices)
        if not len(self.indices):
            raise DatasetError(f"{self.path} has no episode of more than one row")

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def frames(self) -> int:
        """Pictures of all episodes."""
        return int(self._survey.lengths[self.indices].sum())

    @property
    def cut_off(self) -> int:
        """Episodes whose last row tells of a reward, a success or an end, of which no picture shows what came."""
        last = (self._survey.begins + self._survey.lengths - 1)[self.indices]
        names = [name for name in (layout.REWARD, layout.DONE, layout.SUCCESS) if name in self._survey.columns]
        return int(np.any([self._survey.columns[name][last, 0] != 0 for name in names], axis=0).sum()) if names else 0

    @property
    def has_rewards(self) -> bool:
        """Whether it tells what actions earned."""
        return layout.REWARD in self._features

    @cached_property
    def scene(self) -> Scene:
        """What a dataset says of it; the bounds of actions are the least and greatest recorded."""
        low, high = action_bounds(self._action_space, str(self.path))
        environment = None
        if self._state is not None:
            shown = spaces.Box(-np.inf, np.inf, self._survey.columns[self._state].shape[1:])
            environment = Environment(None, serialize_space(shown), serialize_space(self._action_space))
        return Scene(
            name=self.path.name,
            control_hz=self._survey.fps,
            image_size=(self._sizes[0][0], sum(width for _, width in self._sizes)),
            action_low=low,
            action_high=high,
            episode_steps=int(self._survey.lengths.max()) - 1,
            environment=environment,
        )

    def splits(self, seed: int) -> list[str]:
        """A split for every episode: those that the dataset names, else drawn."""
        told = self._info.get("splits")
        if not isinstance(told, dict) or len(told) < 2:
            return draw_splits(["episode"] * len(self), seed)
        told = {"val" if name == "validation" else name: text for name, text in told.items()}
        if strangers := set(told) - set(SPLITS):
            print(
                f"{self.path} has splits {sorted(strangers)}, others than {SPLITS}: they are drawn anew",
                file=sys.stderr,
            )
            return draw_splits(["episode"] * len(self), seed)
        found = ["train"] * len(self._survey.lengths)
        for name, text in told.items():
            begin, _, end = str(text).partition(":")
            if not (begin.isdecimal() and end.isdecimal()):
                raise DatasetError(f"{self.path / layout.INFO} has the split {name} {text!r}; expected 'begin:end'")
            part = slice(int(begin), int(end))
            found[part] = [name] * len(found[part])
        return [found[index] for index in self.indices]

    def metadata(self) -> dict[str, Any]:
        """What a dataset made from it keeps, so that it can be written as one again."""
        names = {name: self._features[name].get("names") for name in self._vectors()}
        robot = self._info.get("robot_type")
        origin = layout.Origin(tuple(self.cameras), robot, names, tuple(self._tasks), self.has_rewards)
        return {"simulator": "imported", "source": self._fingerprint(), "lerobot": dataclasses.asdict(origin)}

    def episodes(self) -> Iterator[Episode]:
        """All episodes of more than one row.

        Raises:
            DatasetError: If pictures are damaged or missing.
        """
        for index in self.indices:
            yield self._episode(int(index))

    def _episode(self, index: int) -> Episode:
        begin, count = int(self._survey.begins[index]), int(self._survey.lengths[index])
        values = {name: whole[begin : begin + count] for name, whole in self._survey.columns.items()}
        infos = {"task_index": values["task_index"][:, 0]}
        if layout.SUCCESS in values:
            infos["is_success"] = np.append(False, values[layout.SUCCESS][:-1, 0].astype(bool))
        return Episode(
            np.concatenate([self._pictures(place, index, count) for place in range(len(self.cameras))], axis=2),
            action_vectors(self._action_space, values[layout.ACTION][:-1]),
            infos=infos,
            rewards=values[layout.REWARD][:-1, 0].astype(np.float64) if self.has_rewards else None,
            terminations=values[layout.DONE][:-1, 0].astype(bool) if layout.DONE in values else None,
            observations={} if self._state is None else {OBSERVED: values[self._state].astype(np.float32)},
        )

    def _pictures(self, place: int, index: int, count: int) -> NDArray[np.uint8]:
        """What a camera has seen in an episode, in the size that is recorded, (count, h, w, 3)."""
        camera = self.cameras[place]
        if self._features[camera]["dtype"] == "image":
            rows = read_table(self._survey.file(index), [camera], ("episode_index", index))
            frames: Generator[NDArray[np.uint8]] = (
                _decoded(told, f"{camera} of {self.path}") for told in rows[camera].to_pylist()
            )
        else:
            begin = self._survey.begin(index, camera)
            frames = frames_from(self._survey.file(index, camera), begin, count, self._survey.fps)
        whole, pictures = layout.picture_size(camera, self._features[camera]), []
        with closing(frames):
            for frame in frames:
                if frame.shape != (*whole, 3):
                    raise DatasetError(f"episode {index} of {self.path} shows {frame.shape} in {camera}, not {whole}")
                pictures.append(resized(frame, self._sizes[place]))
        if len(pictures) != count:
            raise DatasetError(
                f"episode {index} of {self.path} has {len(pictures)} pictures of {count} rows in {camera}"
            )
        return np.stack(pictures)

    def _chosen(self, cameras: Sequence[str] | None) -> list[str]:
        """The cameras that were asked for, by their whole names."""
        known = [name for name, feature in self._features.items() if feature.get("dtype") in layout.PICTURES]
        if not known:
            raise DatasetError(f"{self.path} has no cameras, and dreams are of pictures")
        if not cameras:
            if len(known) == 1:
                return known
            raise DatasetError(
                f"{self.path} has the cameras {', '.join(known)}: choose by --cameras '[{known[0]}]', or have several "
                f"side by side by --cameras '[{known[0]}, {known[1]}]'"
            )
        found = [name if name in known else f"observation.images.{name}" for name in cameras]
        if strangers := [name for name, whole in zip(cameras, found, strict=True) if whole not in known]:
            raise DatasetError(f"{self.path} has the cameras {', '.join(known)}, but no {', '.join(strangers)}")
        return found

    def _vectors(self) -> list[str]:
        """The columns of actions and states.

        Raises:
            DatasetError: If one is not there, or no vector of numbers.
        """
        names = [layout.ACTION] if self._state is None else [layout.ACTION, self._state]
        for name in names:
            if name not in self._features:
                others = sorted(set(self._features) - {*layout.INDICES, *self.cameras})
                hint = "" if name == layout.ACTION else ": choose by --state, or do without one by --state null"
                raise DatasetError(f"{self.path} has no {name}, but {', '.join(others)}{hint}")
            shape, kind = self._features[name].get("shape"), str(self._features[name].get("dtype"))
            if not (isinstance(shape, list) and len(shape) == 1 and kind.startswith(("float", "int"))):
                raise DatasetError(f"{name} of {self.path} is {kind} {shape}; expected a vector of numbers")
        return names

    @cached_property
    def _action_space(self) -> Space:
        """Least and greatest recorded; a whole number is a choice."""
        actions = self._survey.columns[layout.ACTION]
        if actions.dtype.kind not in "iu" or actions.shape[1] > 1:
            return spaces.Box(*(bound(axis=0).astype(np.float32) for bound in (actions.min, actions.max)))
        if actions.min() < 0 or actions.max() >= _MOST_CHOICES:
            raise DatasetError(
                f"{self.path} has choices from {actions.min()} to {actions.max()}; expected 0 to {_MOST_CHOICES - 1}"
            )
        return spaces.Discrete(int(actions.max()) + 1)

    def _fingerprint(self) -> str:
        """A hash of all but the pictures."""
        digest = hashlib.sha256((self.path / layout.INFO).read_bytes())
        for name in sorted(self._survey.columns):
            digest.update(np.ascontiguousarray(self._survey.columns[name]).data)
        return digest.hexdigest()[:16]


def _decoded(told: Any, whose: str) -> NDArray[np.uint8]:
    """A picture of a table.

    Raises:
        DatasetError: If it is none.
    """
    import imageio.v3 as iio

    try:
        return np.asarray(iio.imread(io.BytesIO(told["bytes"]), extension=".png"))[..., :3]
    except Exception as error:  # whatever a damaged picture makes its decoder raise
        raise DatasetError(f"{whose} has a damaged picture: {error}") from error
