"""How does a dataset become a LeRobotDataset? `cosmos-wm export-lerobot DIR --out DIR` writes it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

from cosmos_isaac_wm.data.dataset import EpisodeDataset
from cosmos_isaac_wm.data.lerobot.writing import write_lerobot
from cosmos_isaac_wm.train import cli


@dataclass(frozen=True)
class ExportLerobot:
    """Write a dataset as a LeRobotDataset v3, for LeRobot's own policies and tools.

    Pictures become a camera, the vector observation or the positions of tracked objects the state. Rewards, ends and
    successes are kept where they were recorded. A row is what was seen and then done: an episode's last picture has
    none. Needs `pip install 'cosmos-isaac-wm[lerobot]'`.

    Attributes:
        dataset: Its folder.
        out: Folder of the LeRobotDataset, which must not be there.
        use_videos: Pictures as mp4 (H.264), which loses a little; if false, lossless in the tables.
    """

    dataset: Path
    out: Path
    use_videos: bool = True

    def run(self) -> dict[str, float]:
        """Convert; how many episodes and rows."""
        source = EpisodeDataset(self.dataset)
        rows = write_lerobot(self.out, source, self.use_videos, partial(tqdm, desc="export", unit="episode"))
        print(f"{len(source)} episodes of {rows} rows in {self.out}")
        return {"episodes": float(len(source)), "frames": float(rows)}


def main(argv: Sequence[str] | None = None) -> int:
    """The `cosmos-wm export-lerobot` command; its dataset may stand first, without `--dataset`."""
    return cli.run(ExportLerobot, "export-lerobot", cli.first_as("--dataset", argv))


if __name__ == "__main__":
    sys.exit(main())
