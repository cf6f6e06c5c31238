"""Is a LeRobotDataset v3 whole, and do its tables and videos belong together? Seen before the first picture is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...storage.structured import read
from ..episodes import DatasetError
from . import layout
from .tables import column, read_table
from .video import frames_in


def read_info(path: Path) -> dict[str, Any]:
    """What a dataset says of itself.

    Raises:
        DatasetError: If it is none, damaged, of another version, or has its files elsewhere.
    """
    file = path / layout.INFO
    if not file.exists():
        raise DatasetError(f"{path} is no LeRobot dataset: there is no {layout.INFO} in it")
    info = read(file, dict[str, Any], DatasetError)
    version = str(info.get("codebase_version"))
    if not version.startswith("v3."):
        advice = "convert it with LeRobot's convert_dataset_v21_to_v30" if version.startswith("v2") else "expected v3"
        if version.startswith("v2.0"):
            advice += ", after its convert_dataset_v20_to_v21"
        raise DatasetError(f"{path} is a LeRobot dataset of version {version}, of which v3 is read: {advice}")
    features = info.get("features")
    if not isinstance(features, dict) or not all(isinstance(each, dict) for each in features.values()):
        raise DatasetError(f"{file} has no features")
    if not isinstance(info.get("fps"), int | float) or not 0 < info["fps"] <= layout.FASTEST:
        raise DatasetError(f"{file} has fps {info.get('fps')!r}; expected frames per second")
    for name, pattern in {"data_path": layout.DATA, "video_path": layout.VIDEO}.items():
        if info.get(name) not in (None, pattern):
            raise DatasetError(f"{file} has {name} {info[name]!r}; expected {pattern!r}")
    for name in features:
        layout.must_be_name(name, file)
    return info


class Survey:
    """Everything of a dataset but its pictures.

    Args:
        path: Its folder.
        info: What it says of itself.
        cameras: Which pictures will be wanted.
        vectors: Which further columns will.

    Attributes:
        columns: Of the whole table, (rows, D) by name.
        lengths: Rows of every episode.
        begins: First row of every episode in the whole table.

    Raises:
        DatasetError: If something is missing, damaged, not finite, or contradicts something else.
    """

    def __init__(self, path: Path, info: dict[str, Any], cameras: Sequence[str], vectors: Sequence[str]):
        self.path, self.fps = path, float(info["fps"])
        self._features = info["features"]
        self._videos = [camera for camera in cameras if self._features[camera]["dtype"] == "video"]
        names = [*dict.fromkeys([*vectors, "task_index", "episode_index", "frame_index"])]
        table = read_table(sorted((path / "data").glob("chunk-*/file-*.parquet")), names)
        self.columns: dict[str, NDArray[Any]] = {name: column(table, name, path) for name in names}
        self._places = self._read_places()
        self.lengths: NDArray[np.int64] = self._places["length"]
        self.begins: NDArray[np.int64] = np.cumsum(self.lengths) - self.lengths
        self._check_rows()
        for camera in self._videos:
            self._check_videos(camera)

    def file(self, index: int, camera: str | None = None) -> Path:
        """The file in which an episode's rows are, or its pictures of a camera."""
        which, pattern = ("data", layout.DATA) if camera is None else (f"videos/{camera}", layout.VIDEO)
        chunk, file = (int(self._places[f"{which}/{name}_index"][index]) for name in ("chunk", "file"))
        return self.path / pattern.format(chunk_index=chunk, file_index=file, video_key=camera)

    def begin(self, index: int, camera: str) -> float:
        """When in its video an episode begins, in seconds."""
        return float(self._places[f"videos/{camera}/from_timestamp"][index])

    def _read_places(self) -> dict[str, NDArray[Any]]:
        """Of every episode where its rows and pictures are."""
        names = ["episode_index", "length", "data/chunk_index", "data/file_index"]
        for camera in self._videos:
            told = ("chunk_index", "file_index", "from_timestamp", "to_timestamp")
            names += [f"videos/{camera}/{name}" for name in told]
        table = read_table(sorted((self.path / "meta/episodes").glob("chunk-*/file-*.parquet")), names)
        return {name: column(table, name, self.path)[:, 0] for name in names}

    def _check_rows(self) -> None:
        """Refuse rows that are not finite, not in order, or more or fewer than meta/episodes tells."""
        numbers = self.columns["episode_index"][:, 0]
        if numbers.dtype.kind not in "iu" or self.lengths.dtype.kind not in "iu" or numbers.min() < 0:
            raise DatasetError(f"the episodes of {self.path} are not numbered 0, 1, 2, ...")
        if numbers.max() >= len(numbers) or len(self.lengths) > len(numbers):
            raise DatasetError(f"{self.path} has {len(numbers)} rows, and an episode {numbers.max()}: rows are missing")
        found = np.bincount(numbers, minlength=len(self.lengths))
        told = np.zeros_like(found)
        told[: len(self.lengths)] = self.lengths
        if (told != found).any():
            odd = int(np.flatnonzero(told != found)[0])
            raise DatasetError(
                f"episode {odd} of {self.path} has {found[odd]} rows, but meta/episodes says {told[odd]}"
            )
        expected = np.concatenate([np.arange(count) for count in found])
        episodes = np.repeat(np.arange(len(found)), found)
        in_order = (numbers == episodes) & (self.columns["frame_index"][:, 0] == expected)
        if not in_order.all() or (self._places["episode_index"] != np.arange(len(found))).any():
            raise DatasetError(f"the rows of {self.path} are not in order")
        for name, values in self.columns.items():
            if len(bad := np.argwhere(~np.isfinite(values))):
                raise DatasetError(
                    f"{name} of {self.path} is not finite in row {bad[0][0]}, of episode {episodes[bad[0][0]]}: "
                    "repair it, or delete that episode"
                )

    def _check_videos(self, camera: str) -> None:
        """Refuse videos that are missing, too short for their rows, or of another size."""
        size = layout.picture_size(camera, self._features[camera])
        begin, end = (self._places[f"videos/{camera}/{which}_timestamp"] for which in ("from", "to"))
        ends: dict[Path, int] = {}
        for index, length in enumerate(self.lengths):
            told = (end[index] - begin[index]) * self.fps
            if round(told) != length:
                raise DatasetError(
                    f"episode {index} of {self.path} has {length} rows, but {told:.1f} frames of {camera}"
                )
            path = self.file(index, camera)
            ends[path] = max(ends.get(path, 0), round(float(end[index]) * self.fps))
        for path, last in ends.items():
            count, shown = frames_in(path)
            if count and count < last:
                raise DatasetError(
                    f"{path} has {count} frames, but the table has rows for {last}: the video does not belong to it, "
                    "or was cut off"
                )
            if shown != size:
                raise DatasetError(f"{path} has pictures of {shown}, but {layout.INFO} tells of {size}")
