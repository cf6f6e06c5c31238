"""What does LeRobot's own package read and write? Run by its own Python: `python official.py write|read|delete FOLDER`.

The dataset in official/ was written by `write`, with lerobot 0.4.4: AV1 videos of two cameras, three episodes.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from lerobot.datasets.dataset_tools import delete_episodes
from lerobot.datasets.lerobot_dataset import LeRobotDataset


def write(folder: Path, use_videos: bool = True) -> None:
    """A red bar that moves to the right, seen from the top, and a grey that brightens, seen from the wrist."""
    kind = "video" if use_videos else "image"
    camera = {"dtype": kind, "names": ["height", "width", "channels"]}
    features = {
        "observation.state": {"dtype": "float32", "shape": (3,), "names": ["a", "b", "c"]},
        "action": {"dtype": "float32", "shape": (2,), "names": ["x", "y"]},
        "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
        "next.done": {"dtype": "bool", "shape": (1,), "names": None},
        "next.success": {"dtype": "bool", "shape": (1,), "names": None},
        "observation.images.top": {**camera, "shape": (96, 128, 3)},
        "observation.images.wrist": {**camera, "shape": (96, 96, 3)},
    }
    dataset = LeRobotDataset.create("me/mine", 20, features, folder, "arm", use_videos=use_videos)
    for episode in range(3):
        for step in range(20 + episode):
            top = np.full((96, 128, 3), 20 * episode, np.uint8)
            top[:, 4 * step : 4 * step + 8] = (250, 40, 40)
            row = {
                "observation.state": np.array([step, episode, -step], np.float32),
                "action": np.array([step / 20, episode - 1], np.float32),
                "next.reward": np.array([step / 10], np.float32),
                "next.done": np.array([step == 19 + episode]),
                "next.success": np.array([step > 15]),
                "observation.images.top": top,
                "observation.images.wrist": np.full((96, 96, 3), 10 * step, np.uint8),
            }
            dataset.add_frame({**row, "task": f"push {episode % 2}"})
        dataset.save_episode()
    dataset.finalize()


def read(folder: Path) -> None:
    """Print as JSON what it reads: of every row numbers, and the mean of each camera."""
    dataset = LeRobotDataset("me/mine", folder, video_backend="pyav")
    rows = []
    for row in torch.utils.data.DataLoader(dataset, batch_size=None):
        told = {name: value for name, value in row.items() if isinstance(value, str)}
        for name, value in row.items():
            if torch.is_tensor(value):
                told[name] = (value.mean(dim=(1, 2)) if value.ndim == 3 else value).tolist()
        rows.append(told)
    stats = {
        name: {key: np.asarray(value).tolist() for key, value in each.items()}
        for name, each in dataset.meta.stats.items()
    }
    print(json.dumps({"rows": rows, "episodes": dataset.num_episodes, "fps": dataset.fps, "stats": stats}))


def delete(folder: Path) -> None:
    """Leave out the first episode, into FOLDER-fewer."""
    dataset = LeRobotDataset("me/mine", folder, video_backend="pyav")
    delete_episodes(dataset, [0], folder.with_name(f"{folder.name}-fewer"), "me/fewer")


if __name__ == "__main__":
    command, folder = sys.argv[1], Path(sys.argv[2])
    {"write": write, "read": read, "delete": delete, "write-images": lambda path: write(path, False)}[command](folder)
