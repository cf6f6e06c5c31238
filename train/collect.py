"""How is data collected from a real simulator? `cosmos-wm collect --episodes 300 --out DIR` writes a Minari dataset."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cosmos_isaac_wm.data import EpisodeDataset
from cosmos_isaac_wm.data.collection import Record, collect, plan
from cosmos_isaac_wm.data.coverage import coverage
from cosmos_isaac_wm.evaluation.baselines import FLOOR_DRAWS
from cosmos_isaac_wm.executors import Processes, executor_for, nothing
from cosmos_isaac_wm.policies.agent import Agent
from cosmos_isaac_wm.policies.driver import AgentDriver
from cosmos_isaac_wm.policies.recording import check_drawing, load_agent, record_episodes
from cosmos_isaac_wm.sims import SimulatorName
from cosmos_isaac_wm.sims.tables import new_tables
from cosmos_isaac_wm.train import cli
from cosmos_isaac_wm.world_model import WorldModel


@dataclass(frozen=True)
class Collect:
    """Collect episodes in a simulator with pictures, true positions and complete states, resumably.

    Attributes:
        out: Folder of the dataset. An interrupted collection in it is continued.
        episodes: Number of episodes.
        kind: "push" (scripted pusher), "slide" (launched slippery cube, no pusher), or "both" (two to one).
        sim: "mujoco", or "isaac-lab" inside an Isaac Lab environment (docs/isaac.md).
        workers: Simulator processes; two of MuJoCo and one of Isaac Lab when not given.
        tables: That Isaac Lab simulates together in each of them; MuJoCo does one.
        size: Height and width of the pictures in pixels.
        steps: Control steps per episode; pictures are one more.
        agent: Folder of an agent that pushes instead, from goal to goal; or the name of a shipped one.
        world_model: The bundle that the agent looks through.
        explore: Share of push episodes that stay with the scripted pusher when there is an agent.
        seed: Seed of everything; the same seed collects the same episodes.
        ray: Collect on a Ray cluster instead of in `workers` processes: "auto" for the one that this machine is a node
            of, or HOST:PORT of its head (docs/scale.md).
    """

    out: Path
    episodes: int = 300
    kind: Literal["push", "slide", "both"] = "both"
    sim: SimulatorName = "mujoco"
    workers: int | None = None
    tables: int = 16
    size: int = 128
    steps: int = 100
    agent: str | None = None
    world_model: str = "default"
    explore: float = 0.5
    seed: int = 0
    ray: str | None = None

    def run(self) -> dict[str, float]:
        """Collect, and draw what was visited; its figures."""
        dataset = self._collected()
        picture = self.out / "coverage.png"
        numbers = coverage(dataset, picture)
        for key, value in numbers.items():
            print(f"{key:>24}  {value:.3g}")
        print(f"dataset in {self.out}, coverage drawn in {picture}")
        return numbers

    def _collected(self) -> EpisodeDataset:
        """The dataset, when all of its episodes are there."""
        together = self.sim == "isaac-lab"
        count = self.tables if together else 1
        probe = new_tables(self.sim, "push", count, (self.size, self.size))
        about = probe.metadata()
        more = {"tables": count} if together else {}
        more |= {"steps": self.steps, "seed": self.seed, **self._about_agent()}
        # Isaac Lab takes a minute to start; its first episode shows whether it is there.
        check = nothing if together else partial(check_drawing, self.size, about)
        with executor_for(self.ray, Processes(self.workers or (1 if together else 2)), check) as executor:
            return collect(
                self.out,
                plan(self.episodes, self.kind, self.seed, self.steps),
                self._recorder(count),
                probe.scene,
                about | more,
                executor,
                split_seed=self.seed,
                together=count,
                restarts=FLOOR_DRAWS if together else 0,  # whoever reads these episodes has seldom Isaac Lab at hand
            )

    def _recorder(self, count: int) -> Record:
        """What records episodes. Other machines may not have the agent's folder, so the agent itself goes there."""
        agent: str | tuple[WorldModel, Agent] | None = self.agent
        if self.ray is not None and self.agent is not None:
            agent = load_agent(self.world_model, self.agent, "cpu")
        return partial(
            record_episodes,
            size=self.size,
            agent=agent,
            world_model=self.world_model,
            explore=self.explore,
            sim=self.sim,
            count=count,
        )

    def _about_agent(self) -> dict[str, Any]:
        """What the dataset says of an agent; one that does not fit is an error now, not in the first episode."""
        if self.agent is None:
            return {}
        model, loaded = load_agent(self.world_model, self.agent)
        AgentDriver(model, loaded, np.zeros((self.size, self.size, 3), np.uint8), self.seed)
        return {"agent": loaded.fingerprint(), "world_model": model.fingerprint(), "explore": self.explore}


def main(argv: Sequence[str] | None = None) -> int:
    """The `cosmos-wm collect` command."""
    return cli.run(Collect, "collect", argv)


if __name__ == "__main__":
    sys.exit(main())
