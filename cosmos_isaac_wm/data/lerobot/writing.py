"""How is a dataset written as a LeRobotDataset v3? Whole or not at all, as LeRobot's own package reads it.

A row is what was seen, the action that was taken then, and what came of it. An episode's last picture, after which
nothing was done, has no row.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...spaces import own_actions, read_space
from ...storage.atomic import must_have_room, replacing_folder
from ...storage.paths import user_path
from ...storage.structured import shaped
from ..dataset import SPLITS, EpisodeDataset
from ..episodes import DatasetError, Episode
from ..stored import desired, layout_of, observed
from . import layout
from .statistics import histogram, of_numbers, of_pictures
from .tables import task_table, written
from .video import Mp4

_CAMERA = "observation.images.camera"
_DATA_BYTES, _VIDEO_BYTES = 100 * 2**20, 200 * 2**20  # of a file, after which another is begun, as in LeRobot


def write_lerobot(
    path: str | os.PathLike[str],
    dataset: EpisodeDataset,
    use_videos: bool = True,
    beside: Callable[[list[int]], Iterable[int]] = iter,
) -> int:
    """Write all episodes as a LeRobotDataset v3; how many rows.

    Args:
        path: Folder to create; must not hold anything yet.
        dataset: What to write. Splits become ranges of episodes, train first.
        use_videos: Pictures as mp4 (H.264, lossy), or else lossless in the tables.
        beside: Goes over the episodes' numbers, for example tqdm.

    Raises:
        FileExistsError: If there is something.
        DatasetError: If a video cannot hold pictures of this size.
        ImportError: If what writes it is not installed.
    """
    layout.must_be_installed()
    path, size = user_path(path), dataset.scene.image_size
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise FileExistsError(f"{path} is there already; choose another folder")
    if use_videos and any(side % 2 for side in size):
        raise DatasetError(
            f"pictures of {size[0]} x {size[1]} have an odd side, which H.264 cannot hold: write them lossless in the "
            "tables, by --use_videos false"
        )
    known = ["", *SPLITS]  # what was never split is for training
    with replacing_folder(path.resolve()) as temporary:
        writer = _Writer(temporary, dataset, use_videos)
        with closing(writer):
            for index in beside(sorted(range(len(dataset)), key=lambda index: known.index(dataset.splits[index]))):
                writer.add(dataset[index])
        counts = [sum(own == split or (own == "" and split == "train") for own in dataset.splits) for split in SPLITS]
        ends = np.cumsum(counts)
        return writer.finish({s: f"{e - c}:{e}" for s, c, e in zip(SPLITS, counts, ends, strict=True) if c})


class _Writer:
    """Adds episodes to the tables and videos of a folder.

    Args:
        folder: Of the new dataset.
        dataset: Where they come from.
        use_videos: As of `write_lerobot`.
    """

    def __init__(self, folder: Path, dataset: EpisodeDataset, use_videos: bool):
        self._folder, self._scene, self._use_videos = folder, dataset.scene, use_videos
        self._metadata, self._markers = dataset.metadata, _always_there(dataset)
        where = f"lerobot in the metadata of {dataset.path}"
        self._origin = shaped(dataset.metadata.get("lerobot", {}), layout.Origin, where, DatasetError)
        self._camera = self._origin.cameras[0] if len(self._origin.cameras) == 1 else _CAMERA
        layout.must_be_name(self._camera, where)
        rate = self._scene.control_hz
        self._fps = int(rate) if rate.is_integer() else rate
        self._tasks: list[str] = []
        self._episodes: list[dict[str, Any]] = []
        self._values: dict[str, list[NDArray[Any]]] = {}
        self._colours, self._rows = np.zeros((3, 256), np.int64), 0
        self._waiting: list[Any] = []  # tables for the next file
        self._files, self._videos = 0, 0
        self._video: Mp4 | None = None

    def add(self, episode: Episode) -> None:
        """Add an episode."""
        steps, frames, tasks = len(episode), episode.frames[:-1], self._tasks_of(episode)
        must_have_room(self._folder, 2 * frames.nbytes)
        self._tasks += [task for task in dict.fromkeys(tasks) if task not in self._tasks]
        values = self._columns(episode) | {
            "timestamp": (np.arange(steps) / self._fps).astype(np.float32),
            "frame_index": np.arange(steps),
            "episode_index": np.full(steps, len(self._episodes)),
            "index": self._rows + np.arange(steps),
            "task_index": np.array([self._tasks.index(task) for task in tasks]),
        }
        about: dict[str, Any] = {
            "episode_index": len(self._episodes),
            "tasks": [*dict.fromkeys(tasks)],
            "length": steps,
        }
        about |= self._place("data", self._files)
        about |= {"dataset_from_index": self._rows, "dataset_to_index": self._rows + steps}
        about |= self._filmed(frames) if self._use_videos else {}
        colours = histogram(frames)
        told = {name: of_numbers(value) for name, value in values.items()} | {self._camera: of_pictures(colours, steps)}
        about |= {f"stats/{name}/{key}": value for name, each in told.items() for key, value in each.items()}
        self._episodes.append(about | self._place("meta/episodes", 0))
        self._rows += steps
        self._colours += colours
        if self._values and values.keys() != self._values.keys():
            odd = sorted(values.keys() ^ self._values.keys())
            raise DatasetError(f"episodes differ in {', '.join(odd)}: some have it, others do not")
        for name, value in values.items():
            self._values.setdefault(name, []).append(value)
        self._waiting.append(written(values, {} if self._use_videos else {self._camera: frames}))
        if sum(table.nbytes for table in self._waiting) >= _DATA_BYTES:
            self._flush()

    def finish(self, splits: dict[str, str]) -> int:
        """Write what is left, and what the dataset says of itself; how many rows it has."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self._waiting:
            self._flush()
        episodes = self._folder / layout.EPISODES.format(chunk_index=0, file_index=0)
        episodes.parent.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(self._episodes), episodes)
        pq.write_table(task_table(self._tasks), self._folder / layout.TASKS)
        whole = {name: np.concatenate(values) for name, values in self._values.items()}
        statistics = {name: of_numbers(values) for name, values in whole.items()}
        statistics[self._camera] = of_pictures(self._colours, self._rows)
        (self._folder / layout.STATS).write_text(json.dumps(statistics, indent=4))
        (self._folder / layout.INFO).write_text(json.dumps(self._info(whole, splits), indent=4))
        return self._rows

    def close(self) -> None:
        """Finish the video, whatever has happened."""
        if self._video is not None:
            self._video.close()
            self._video = None

    def _columns(self, episode: Episode) -> dict[str, NDArray[Any]]:
        """An episode's numbers, a row for each action."""
        values: dict[str, NDArray[Any]] = {layout.ACTION: episode.actions}
        if self._scene.environment is not None:
            space = read_space(self._scene.environment.action_space)
            own = own_actions(space, episode.actions)
            whole = own.dtype.kind in "iu"
            values[layout.ACTION] = own.astype(np.int64 if whole else np.float32).reshape(len(episode), -1)
            goals = desired(episode, self._scene)
            values |= {layout.GOAL: goals[:-1]} if goals.shape[1] else {}
        told = self._scene.environment is not None or "lerobot" in self._metadata  # of others, zeros stand for nothing
        if told and self._origin.rewards and episode.rewards is not None:
            values[layout.REWARD] = episode.rewards.astype(np.float32)
        seen = self._seen(episode)
        values |= {layout.STATE: seen[:-1]} if seen.shape[1] else {}
        ends = [each for each in (episode.terminations, episode.truncations) if each is not None]
        values[layout.DONE] = np.any(ends, axis=0) if ends else np.arange(len(episode)) == len(episode) - 1
        if "is_success" in episode.infos:
            values[layout.SUCCESS] = np.asarray(episode.infos["is_success"][1:], bool)
        return values

    def _seen(self, episode: Episode) -> NDArray[np.float32]:
        """What stands beside the pictures: what was observed, or else where objects are, (T + 1, D)."""
        if self._scene.environment is not None:
            return observed(episode, self._scene)
        places = episode.marker_positions(self._markers).reshape(len(episode.frames), -1)
        if not np.isfinite(places).all():
            raise DatasetError(f"an episode lacks positions of {', '.join(self._markers)} that others have")
        return places

    def _names(self, name: str, size: int) -> Any:
        """What the components of a vector are called."""
        if (told := self._origin.names.get(name)) is not None:
            return told
        own = layout_of(self._scene)
        if name == layout.STATE:
            markers = [f"{marker}_{axis}" for marker in self._markers for axis in "xy"]
            return markers if own is None else own.names
        return [f"{name}_{number}" for number in range(size)]

    def _tasks_of(self, episode: Episode) -> list[str]:
        """What was to be done in each row."""
        known, numbers = self._origin.tasks, episode.infos.get("task_index")
        if numbers is not None and len(known) > int(np.max(numbers)):
            return [str(known[int(number)]) for number in numbers[:-1]]
        kind = "" if episode.kind == "episode" else f": {episode.kind}"
        return [f"{self._scene.name}{kind}"] * len(episode)

    def _filmed(self, frames: NDArray[np.uint8]) -> dict[str, float]:
        """Add pictures to a video; where they are."""
        if self._video is not None and self._video.size >= _VIDEO_BYTES:
            self.close()
            self._videos += 1
        prefix = f"videos/{self._camera}"
        about: dict[str, float] = {**self._place(prefix, self._videos)}
        if self._video is None:
            chunk, file = divmod(self._videos, layout.FILES_PER_CHUNK)
            name = layout.VIDEO.format(video_key=self._camera, chunk_index=chunk, file_index=file)
            self._video = Mp4(self._folder / name, self._fps, self._scene.image_size)
        begin = self._video.count
        self._video.add(frames)
        about |= {f"{prefix}/from_timestamp": begin / self._fps}
        return about | {f"{prefix}/to_timestamp": self._video.count / self._fps}

    def _flush(self) -> None:
        """Write the waiting rows into a file."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        chunk, file = divmod(self._files, layout.FILES_PER_CHUNK)
        path = self._folder / layout.DATA.format(chunk_index=chunk, file_index=file)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.concat_tables(self._waiting), path)
        self._waiting, self._files = [], self._files + 1

    def _place(self, prefix: str, number: int) -> dict[str, int]:
        chunk, file = divmod(number, layout.FILES_PER_CHUNK)
        return {f"{prefix}/chunk_index": chunk, f"{prefix}/file_index": file}

    def _info(self, whole: dict[str, NDArray[Any]], splits: dict[str, str]) -> dict[str, Any]:
        """What the dataset says of itself."""
        height, width = self._scene.image_size
        kind = "video" if self._use_videos else "image"
        shown: dict[str, Any] = {"dtype": kind, "shape": [height, width, 3], "names": ["height", "width", "channels"]}
        if self._use_videos:
            told = {"height": height, "width": width, "codec": "h264", "pix_fmt": "yuv420p", "is_depth_map": False}
            told |= {"fps": self._fps, "channels": 3}
            shown["info"] = {**{f"video.{key}": value for key, value in told.items()}, "has_audio": False}
        features: dict[str, Any] = {self._camera: shown}
        for name, values in whole.items():
            size = values.shape[1] if values.ndim > 1 else 1
            names = self._names(name, size) if name in (layout.ACTION, layout.STATE) else None
            features[name] = {"dtype": str(values.dtype), "shape": [size], "names": names}
        return {
            "codebase_version": layout.VERSION,
            "robot_type": self._origin.robot_type or self._scene.name,
            "total_episodes": len(self._episodes),
            "total_frames": self._rows,
            "total_tasks": len(self._tasks),
            "chunks_size": layout.FILES_PER_CHUNK,
            "data_files_size_in_mb": _DATA_BYTES // 2**20,
            "video_files_size_in_mb": _VIDEO_BYTES // 2**20,
            "fps": self._fps,
            "splits": splits,
            "data_path": layout.DATA,
            "video_path": layout.VIDEO if self._use_videos else None,
            "features": features,
        }


def _always_there(dataset: EpisodeDataset) -> list[str]:
    """The markers that the first episode of every kind has positions of."""
    first = [dataset[dataset.kinds.index(kind)] for kind in sorted(set(dataset.kinds))] if dataset.scene.markers else []
    return [
        name
        for name in dataset.scene.marker_names
        if all(np.isfinite(episode.marker_positions([name])).all() for episode in first)
    ]
