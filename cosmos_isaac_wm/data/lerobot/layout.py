"""Where in a LeRobotDataset v3 does what lie, and under which name?

Its paths are always these: those that an `info.json` names are compared with them, never followed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from ..episodes import DatasetError

VERSION = "v3.0"
INFO, STATS, TASKS = "meta/info.json", "meta/stats.json", "meta/tasks.parquet"
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
EPISODES = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
FILES_PER_CHUNK = 1000
FASTEST = 10_000  # frames per second
STATE, ACTION = "observation.state", "action"
GOAL = "observation.desired_goal"  # of a goal environment
REWARD, DONE, SUCCESS = "next.reward", "next.done", "next.success"
PICTURES = ("video", "image")  # types of features that are pictures
INDICES = ("timestamp", "frame_index", "episode_index", "index", "task_index")  # which every table has


@dataclass(frozen=True)
class Origin:
    """What an imported dataset keeps of the LeRobotDataset that it was, to be written as one again.

    Attributes:
        cameras: Which were imported.
        robot_type: As the dataset calls it.
        names: What the components of actions and states are called, by column.
        tasks: What was to be done, by number.
        rewards: Whether it told them.
    """

    cameras: tuple[str, ...] = ()
    robot_type: str | None = None
    names: dict[str, Any] = field(default_factory=dict)
    tasks: tuple[str, ...] = ()
    rewards: bool = True


def must_be_name(name: str, where: object) -> None:
    """Refuse a feature whose name is a path.

    Raises:
        DatasetError: If it is.
    """
    if not name or "/" in name or "\\" in name or name.startswith("."):
        raise DatasetError(f"{where} has the feature {name!r}, whose name is a path")


def must_be_installed() -> None:
    """Refuse to go on without what reads tables and videos.

    Raises:
        ImportError: If a package is missing; says how to get it.
    """
    if missing := [name for name in ("pyarrow", "av") if find_spec(name) is None]:
        raise ImportError(f"LeRobot datasets need {' and '.join(missing)}: pip install 'cosmos-isaac-wm[lerobot]'")


def picture_size(name: str, feature: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width of a camera's pictures.

    Args:
        name: Of the camera.
        feature: What `info.json` says of it.

    Raises:
        DatasetError: If they are not of three colours.
    """
    shape, names = feature.get("shape"), feature.get("names")
    axes = [str(each) for each in names] if isinstance(names, list) else []
    if not isinstance(shape, list) or len(shape) != 3 or not all(isinstance(size, int) and size > 0 for size in shape):
        raise DatasetError(f"{name} has shape {shape}; expected rows, columns and three colours")
    colours = next((place for place, axis in enumerate(axes) if axis.startswith("channel")), 0 if shape[0] == 3 else 2)
    height, width = (size for place, size in enumerate(shape) if place != colours)
    info = feature.get("info") or feature.get("video_info") or {}
    if shape[colours] != 3 or (isinstance(info, dict) and info.get("video.is_depth_map")):
        raise DatasetError(f"{name} has shape {shape} or shows depth; expected pictures of three colours")
    return height, width
