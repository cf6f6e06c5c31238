"""How faithful is a bundle? `cosmos-wm evaluate --split test --json FILE` measures it on held-out episodes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from cosmos_isaac_wm.data import EpisodeDataset
from cosmos_isaac_wm.evaluation.evaluation import draw_episodes, evaluate
from cosmos_isaac_wm.evaluation.open_loop import first_dreamed
from cosmos_isaac_wm.evaluation.surprise import strange
from cosmos_isaac_wm.evaluation.trust import doubted, trust_figures
from cosmos_isaac_wm.evaluation.twin_truth import truth_figures
from cosmos_isaac_wm.evaluation.twins import HORIZON, twin_figures, twin_lines
from cosmos_isaac_wm.policies.endurance import play_figures
from cosmos_isaac_wm.policies.shifts import must_be_shiftable, shift_figures, shift_table
from cosmos_isaac_wm.reporting.table import error_table
from cosmos_isaac_wm.train import cli
from cosmos_isaac_wm.world_model import WorldModel


@dataclass(frozen=True)
class Evaluate:
    """Measure a bundle open loop on held-out episodes (short: an interrupted run starts over).

    Attributes:
        world_model: A shipped bundle's name, a folder, or "hf://owner/repository".
        data: A dataset; the bundle's shipped held-out episodes when not given.
        split: Which of its episodes.
        episodes: How many of them; all when not given.
        horizon: Greatest number of dreamed steps; to the episodes' ends when not given. The figures of a twin's
            rewards and ends are over 25 then.
        play: Steps for which the dream is also played without a restart, under random actions and under the bundle's
            own agent; 6000 are ten minutes of the table. Says how often every object is found.
        shifts: Fresh episodes of every kind and world, 10 or more, in MuJoCo: the table as it was recorded, with half
            and double friction, a cube of twice the mass, actions a step late, the lamp moved; and Isaac Lab's
            pictures. Says how well surprise tells those worlds from the known one, and whether error bounds hold there.
        seed: Seed of the choice of episodes, the floor's noise, the bootstrap, the play and the shifts.
        device: "auto", "cpu" or "cuda".
        dtype: Precision of the dynamics network, to see what the faster one costs.
    """

    world_model: str = "default"
    data: Path | None = None
    split: Literal["test", "val", "train", "all"] = "test"
    episodes: int | None = None
    horizon: int | None = None
    play: int = 0
    shifts: int = 0
    seed: int = 0
    device: str = "auto"
    dtype: Literal["float32", "bfloat16", "auto"] = "float32"

    def run(self) -> dict[str, float]:
        """Measure, and print the table; its figures."""
        model = WorldModel.load(self.world_model, self.device)
        if self.play and not model.scene.markers:
            raise ValueError(f"--play looks for objects, and the scene {model.scene.name!r} knows none")
        if self.shifts:
            must_be_shiftable(model, self.shifts)
        dataset = model.held_out() if self.data is None else EpisodeDataset(self.data)
        chosen = draw_episodes(dataset, self.split, self.episodes, self.seed, first_dreamed(model) + 1)
        evaluation = evaluate(model, dataset, chosen, self.horizon, self.seed, self.dtype)
        print(error_table(evaluation))
        told = trust_figures(model.error_bound, doubted(model, dataset, chosen))
        if told:
            print(f"\n{twin_lines(told)}")
        told |= self._strange(model, dataset, chosen)
        if model.perception.heads is None:
            told |= self._shifted(model)
            return evaluation.numbers() | told | self._played(model)
        horizon = self.horizon or HORIZON
        figures = twin_figures(model, dataset, chosen, horizon)
        if "state_r2_mean" in figures:
            figures |= truth_figures(model, dataset, chosen, figures["state_r2_mean"], horizon, self.seed)
        print(f"\n{twin_lines(figures)}")
        return evaluation.numbers() | told | figures

    def _strange(self, model: WorldModel, dataset: EpisodeDataset, chosen: Sequence[int]) -> dict[str, float]:
        """How many of the user's episodes surprise more than nearly all shipped ones; nothing where there are none."""
        shipped = model.path is not None and (model.path / "episodes").is_dir()
        if self.data is None or not shipped:
            return {}
        known = model.held_out()
        found = strange(model, known.episodes(range(len(known))), dataset.episodes(chosen))
        for row in found:
            if row.line:
                print(f"\n{row.line}")
        return {f"{row.kind}_surprising_share": row.share for row in found if np.isfinite(row.share)}

    def _shifted(self, model: WorldModel) -> dict[str, float]:
        """What the bundle makes of other worlds; nothing unless that was asked for."""
        if not self.shifts:
            return {}
        figures = shift_figures(model, self.shifts, self.seed)
        print(f"\n{shift_table(figures)}")
        return figures

    def _played(self, model: WorldModel) -> dict[str, float]:
        """How the dream holds where nobody restarts it; nothing unless that was asked for."""
        if not self.play:
            return {}
        agent = None if model.path is None or not (model.path / "agent").is_dir() else model.path / "agent"
        figures = play_figures(model, self.play, self.seed, agent)
        print(f"\n{twin_lines(figures)}")
        return figures


def main(argv: Sequence[str] | None = None) -> int:
    """The `cosmos-wm evaluate` command."""
    return cli.run(Evaluate, "evaluate", argv)


if __name__ == "__main__":
    sys.exit(main())
