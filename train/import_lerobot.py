"""How does a LeRobotDataset become a dataset? `cosmos-wm import-lerobot DIR --out DIR` converts it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cosmos_isaac_wm.data.importers.once import import_once
from cosmos_isaac_wm.data.lerobot.layout import STATE
from cosmos_isaac_wm.data.lerobot.reading import LeRobotFolder
from cosmos_isaac_wm.storage.hub import HUB, downloaded
from cosmos_isaac_wm.storage.lock import holding
from cosmos_isaac_wm.train import cli


@dataclass(frozen=True)
class ImportLerobot:
    """Convert a LeRobotDataset v3 into a dataset that every other command reads.

    Its state becomes the vector observation of the twin, its rewards and successes are kept where there are some. A row
    tells what was seen and then done, so an episode of N rows gives N pictures and N - 1 actions. Needs
    `pip install 'cosmos-isaac-wm[lerobot]'`.

    Attributes:
        dataset: Its folder, with meta/info.json in it, or "hf://owner/name" on the Hugging Face hub.
        out: Folder of the new dataset.
        cameras: Which to see: "top", or '[top, wrist]' side by side. When not given, the only one.
        state: The feature that is the vector observation; null to dream pictures only.
        size: Rows of the pictures; 64 when not given, columns follow.
        seed: Of the split into train, val and test, where the dataset has none.
    """

    dataset: str
    out: Path
    cameras: list[str] | str | None = None
    state: str | None = STATE
    size: int | None = None
    seed: int = 0

    def run(self) -> dict[str, float]:
        """Convert, unless that was done before; how many episodes and frames."""
        folder = downloaded(self.dataset, "dataset") if self.dataset.startswith(HUB) else Path(self.dataset)
        cameras = [self.cameras] if isinstance(self.cameras, str) else self.cameras
        source = LeRobotFolder(folder, cameras, self.state, self.size)
        settings = {"cameras": source.cameras, "state": self.state, "seed": self.seed}
        with holding(self.out):
            splits = source.splits(self.seed)
            if not import_once(self.out, source.episodes(), source.scene, splits, source.metadata(), settings):
                cli.going_on(f"the finished dataset {self.out}")
        height, width = source.scene.image_size
        print(
            f"{len(source)} episodes of {height} x {width} pictures and {source.scene.action_dim} actions in {self.out}"
        )
        if source.left_out:
            print(f"{source.left_out} episodes of a single row, which lead nowhere, were left out")
        if source.cut_off:
            print(
                f"{source.cut_off} episodes tell in their last row of a reward, a success or an end; no picture shows "
                "what came of it, so that is left out, and no twin learns of such ends"
            )
        if self.state is None:
            print("without a state there is no twin: pictures are dreamed, and need a reward_fn of your own")
        elif not source.has_rewards:
            print("it tells no rewards: those of the twin are 0; give a reward_fn of your own, or plan for a picture")
        return {"episodes": float(len(source)), "frames": float(source.frames), "left_out": float(source.left_out)}


def main(argv: Sequence[str] | None = None) -> int:
    """The `cosmos-wm import-lerobot` command; its dataset may stand first, without `--dataset`."""
    return cli.run(ImportLerobot, "import-lerobot", cli.first_as("--dataset", argv))


if __name__ == "__main__":
    sys.exit(main())
