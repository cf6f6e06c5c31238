"""Measure a bundle on held-out episodes: `cosmos-wm evaluate --split test --json FILE`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from cosmos_isaac_wm.data import EpisodeDataset
from cosmos_isaac_wm.evaluation.evaluation import draw_episodes, evaluate
from cosmos_isaac_wm.reporting.report import error_table
from cosmos_isaac_wm.train import cli
from cosmos_isaac_wm.world_model import WorldModel


def run(
    world_model: str = "default",
    data: Path | None = None,
    split: Literal["test", "val", "train", "all"] = "test",
    episodes: int | None = None,
    horizon: int | None = None,
    seed: int = 0,
    device: str = "auto",
    dtype: Literal["float32", "bfloat16", "auto"] = "float32",
) -> dict[str, float]:
    """Measure a bundle open loop on held-out episodes (short: an interrupted run starts over).

    Args:
        world_model: A shipped bundle's name, a folder, or "hf://owner/repository".
        data: A dataset; the bundle's shipped held-out episodes when not given.
        split: Which of its episodes.
        episodes: How many of them; all when not given.
        horizon: Greatest number of dreamed steps; to the episodes' ends when not given.
        seed: Seed of the choice of episodes, the floor's noise and the bootstrap.
        device: "auto", "cpu" or "cuda".
        dtype: Precision of the dynamics network, to see what the faster one costs.
    """
    model = WorldModel.load(world_model, device)
    dataset = model.held_out() if data is None else EpisodeDataset(data)
    evaluation = evaluate(model, dataset, draw_episodes(dataset, split, episodes, seed), horizon, seed, dtype)
    print(error_table(evaluation))
    return evaluation.numbers()


def main(argv: Sequence[str] | None = None) -> int:
    """The `cosmos-wm evaluate` command."""
    return cli.run(run, "evaluate", argv)


if __name__ == "__main__":
    sys.exit(main())
