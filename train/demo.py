"""Replay held-out episodes in the dream and show how it did: `cosmos-wm demo --out DIR`. No training, no OpenGL."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from cosmos_isaac_wm.evaluation import draw_episodes, evaluate
from cosmos_isaac_wm.figures import film, typical
from cosmos_isaac_wm.recorder import CSV_NAME, track_rows, write_csv, write_outputs
from cosmos_isaac_wm.report import error_table, write_html
from cosmos_isaac_wm.train import cli
from cosmos_isaac_wm.world_model import WorldModel


def run(
    out: Path = Path("demo-out"),
    world_model: str = "default",
    episodes: int | None = None,
    seed: int = 0,
    device: str = "auto",
) -> dict[str, float]:
    """Replay a bundle's held-out episodes and write report, video and log (short: an interrupted run starts over).

    Args:
        out: Folder to write to; files of an earlier demo are replaced.
        world_model: A shipped bundle's name, a folder, or "hf://owner/repository".
        episodes: How many of the shipped test episodes to replay; all when not given.
        seed: Seed of the choice of episodes, the floor's noise and the bootstrap.
        device: "auto", "cpu" or "cuda".
    """
    model = WorldModel.load(world_model, device)
    dataset = model.held_out()
    evaluation = evaluate(model, dataset, draw_episodes(dataset, "test", episodes, seed), seed=seed)
    out.mkdir(parents=True, exist_ok=True)
    write_csv(out / CSV_NAME, (row for track in evaluation.tracks for row in track_rows(model.scene, track)))
    write_outputs(out, evaluation, film(model, dataset, evaluation, typical(evaluation)))
    chosen = "" if episodes is None else f" --episodes {episodes}"
    command = f"cosmos-wm demo --world-model {world_model} --seed {seed}{chosen}"
    report = write_html(out, evaluation, model, dataset, command)
    print(f"\n{error_table(evaluation)}\n\nreport: {report.resolve()}\nbeside it:")
    for path in sorted(path for path in out.iterdir() if path != report):
        print(f"  {path.name}")
    return evaluation.numbers()


def main(argv: Sequence[str] | None = None) -> int:
    """The `cosmos-wm demo` command."""
    return cli.run(run, "demo", argv)


if __name__ == "__main__":
    sys.exit(main())
