"""Collect episodes from the real simulator into a Minari dataset: `cosmos-wm collect --episodes 300 --out DIR`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cosmos_isaac_wm.data.collection import Job, collect, coverage, plan
from cosmos_isaac_wm.data.episodes import Episode
from cosmos_isaac_wm.policies.scripted import ExploringPusher
from cosmos_isaac_wm.sims.mujoco import MujocoTable
from cosmos_isaac_wm.train import cli

_simulators: dict[tuple[str, int], MujocoTable] = {}  # one OpenGL context per process, kind and size


def record_episode(job: Job, size: int) -> Episode:
    """Run one episode in MuJoCo: the exploring pusher, or a cube left to slide."""
    simulator = _simulators.setdefault((job.kind, size), MujocoTable(job.kind, (size, size)))
    simulator.reset(job.seed)
    pusher = ExploringPusher(job.seed + 1)
    frames, actions, rows = [], [], []

    def observe() -> None:
        frames.append(simulator.render())
        rows.append(
            {
                **{f"{name}_position": position for name, position in simulator.positions().items()},
                "cube_pose": simulator.cube_pose(),
                "state": simulator.get_state(),
                "contact": simulator.in_contact(),
            }
        )

    observe()
    for _ in range(job.steps):
        actions.append(pusher(simulator.positions()) if job.kind == "push" else np.zeros(2, np.float32))
        simulator.step(actions[-1])
        observe()
    columns = {key: np.stack([np.asarray(row[key]) for row in rows]) for key in rows[0]}
    positions = {
        key.removesuffix("_position"): columns.pop(key).astype(np.float32)
        for key in list(columns)
        if key.endswith("_position")
    }
    return Episode(np.stack(frames), np.stack(actions), job.kind, job.seed, positions, columns)


def run(
    out: Path,
    episodes: int = 300,
    kind: Literal["push", "slide", "both"] = "both",
    workers: int = 2,
    size: int = 128,
    steps: int = 100,
    seed: int = 0,
) -> dict[str, float]:
    """Collect episodes in MuJoCo with pictures, true positions and complete states, resumably.

    Args:
        out: Folder of the dataset. An interrupted collection in it is continued.
        episodes: Number of episodes.
        kind: "push" (scripted pusher), "slide" (launched slippery cube, no pusher), or "both" (two to one).
        workers: Simulator processes.
        size: Height and width of the pictures in pixels.
        steps: Control steps per episode; pictures are one more.
        seed: Seed of everything; the same seed collects the same episodes.
    """
    probe = MujocoTable("push", (size, size))
    metadata: dict[str, Any] = {**probe.metadata(), "steps": steps, "seed": seed}
    dataset = collect(
        out,
        plan(episodes, kind, seed, steps),
        partial(record_episode, size=size),
        probe.scene,
        metadata,
        workers=workers,
        split_seed=seed,
    )
    picture = Path(out) / "coverage.png"
    numbers = coverage(dataset, picture)
    for key, value in numbers.items():
        print(f"{key:>24}  {value:.3g}")
    print(f"dataset in {out}, coverage drawn in {picture}")
    return numbers


def main(argv: Sequence[str] | None = None) -> int:
    """The `cosmos-wm collect` command."""
    return cli.run(run, "collect", argv)


if __name__ == "__main__":
    sys.exit(main())
