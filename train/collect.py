"""How is data collected? `cosmos-wm collect --out DIR` records our table, `--env ID` any Gymnasium environment.

Either way it becomes a Minari dataset.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cosmos_isaac_wm.data import EpisodeDataset
from cosmos_isaac_wm.data.collection import Job, Record, collect, plan
from cosmos_isaac_wm.data.coverage import coverage
from cosmos_isaac_wm.evaluation.baselines import FLOOR_DRAWS
from cosmos_isaac_wm.executors import Processes, executor_for, nothing
from cosmos_isaac_wm.policies.agent import Agent
from cosmos_isaac_wm.policies.doubt import least_trusted
from cosmos_isaac_wm.policies.driver import AgentDriver
from cosmos_isaac_wm.policies.env_recording import check_environment, environment, new_predict, record_env_episodes
from cosmos_isaac_wm.policies.recording import check_drawing, load_agent, record_episodes
from cosmos_isaac_wm.sims import SimulatorName
from cosmos_isaac_wm.sims.tables import Tables, new_tables
from cosmos_isaac_wm.train import cli
from cosmos_isaac_wm.world_model import WorldModel


@dataclass(frozen=True)
class Collect:
    """Collect episodes with pictures, resumably: of our table with true positions, or of any Gymnasium environment.

    Attributes:
        out: Folder of the dataset. An interrupted collection in it is continued.
        episodes: Number of episodes.
        env: A Gymnasium environment instead of our table: "Reacher-v5", or "module:Name-v0" where a module has it.
        env_kwargs: What else it is made with, for example {"max_episode_steps": 100}.
        policy: Who acts in it: "smooth" (default; actions that last), "random", the folder of an agent for it, or
            "module:function", which is called with the environment and returns what has `predict`, or is called with
            observations.
        kind: "push" (scripted pusher), "slide" (launched slippery cube, no pusher), or "both" (two to one).
        sim: "mujoco", or "isaac-lab" inside an Isaac Lab environment (docs/isaac.md).
        workers: Simulator processes; two, and one of Isaac Lab when not given.
        tables: That Isaac Lab simulates together in each of them; MuJoCo does one.
        size: Height and width of the pictures in pixels, 128 of the table; rows, 64, of another environment.
        steps: Control steps per episode; pictures are one more. 100 of the table, and at most of another environment
            without a time limit.
        agent: Folder of an agent that pushes instead, from goal to goal; or the name of a shipped one.
        world_model: The bundle that the agent looks through.
        explore: Share of push episodes that stay with the scripted pusher when there is an agent.
        candidates: Pushes that are planned for each that is recorded. All are dreamed by `world_model`, from the first
            pictures on; recorded are those whose dreams may be farthest off, by its error bound.
        seed: Seed of everything; the same seed collects the same episodes.
        ray: Collect on a Ray cluster instead of in `workers` processes: "auto" for the one that this machine is a node
            of, or HOST:PORT of its head (docs/scale.md).
    """

    out: Path
    episodes: int = 300
    env: str | None = None
    env_kwargs: dict[str, Any] | None = None
    policy: str | None = None
    kind: Literal["push", "slide", "both"] = "both"
    sim: SimulatorName = "mujoco"
    workers: int | None = None
    tables: int = 16
    size: int | None = None
    steps: int | None = None
    agent: str | None = None
    world_model: str = "default"
    explore: float = 0.5
    candidates: int = 1
    seed: int = 0
    ray: str | None = None

    def __post_init__(self) -> None:
        """Refuse options that mean nothing together."""
        own, apart = (self.env_kwargs, self.policy), (self.agent, self.kind != "both", self.sim != "mujoco")
        if self.env is None and any(value is not None for value in own):
            raise ValueError("env_kwargs and policy are those of another environment: name it with --env")
        if self.candidates < 1 or (self.candidates > 1 and (self.env is not None or self.kind != "push")):
            raise ValueError(
                f"candidates are 1 or more for each push of our table (--kind push), got {self.candidates}"
            )
        if self.env is not None and any(apart):
            raise ValueError("kind, sim and agent are those of our table; in another --env, --policy names who acts")

    def run(self) -> dict[str, float]:
        """Collect, and draw what was visited; its figures."""
        dataset = self._collected() if self.env is None else self._collected_env(self.env)
        picture = self.out / "coverage.png"
        numbers = coverage(dataset, picture)
        for key, value in numbers.items():
            print(f"{key:>24}  {value:.3g}")
        print(f"dataset in {self.out}, coverage drawn in {picture}")
        return numbers

    def _collected_env(self, env_id: str) -> EpisodeDataset:
        """The dataset of another environment, when all of its episodes are there."""
        kwargs, policy = json.dumps(self.env_kwargs or {}), self.policy or "smooth"
        probe = environment(env_id, kwargs, self.size)
        new_predict(policy, probe.env, 0)  # one that does not fit is an error now
        about = probe.metadata()
        steps = self.steps or probe.scene.episode_steps
        jobs = plan(self.episodes, "episode", self.seed, steps)
        record = partial(record_env_episodes, env_id=env_id, env_kwargs=kwargs, rows=self.size, policy=policy)
        check = partial(check_environment, env_id, kwargs, self.size, about)
        with executor_for(self.ray, Processes(self.workers or 2), check) as executor:
            more = {"steps": steps, "seed": self.seed, "policy": policy}
            return collect(self.out, jobs, record, probe.scene, about | more, executor, split_seed=self.seed)

    def _collected(self) -> EpisodeDataset:
        """The dataset of our table, when all of its episodes are there."""
        together = self.sim == "isaac-lab"
        count = self.tables if together else 1
        size = self.size or 128
        probe = new_tables(self.sim, "push", count, (size, size))
        about = probe.metadata()
        more = {"tables": count} if together else {}
        more |= {"steps": self.steps or 100, "seed": self.seed, **self._about_agent(size)}
        jobs, chosen = self._planned(probe, count)
        # Isaac Lab takes a minute to start; its first episode shows whether it is there.
        check = nothing if together else partial(check_drawing, size, about)
        with executor_for(self.ray, Processes(self.workers or (1 if together else 2)), check) as executor:
            return collect(
                self.out,
                jobs,
                self._recorder(count, size),
                probe.scene,
                about | more | chosen,
                executor,
                split_seed=self.seed,
                together=count,
                restarts=FLOOR_DRAWS if together else 0,  # whoever reads these episodes has seldom Isaac Lab at hand
            )

    def _planned(self, tables: Tables, count: int) -> tuple[list[Job], dict[str, Any]]:
        """What is recorded, all that is planned or what dreams are least sure of; and what the dataset says of it."""
        jobs = plan(self.episodes * self.candidates, self.kind, self.seed, self.steps or 100)
        if self.candidates == 1:
            return jobs, {}
        agent = None if self.agent is None else load_agent(self.world_model, self.agent)
        model = WorldModel.load(self.world_model) if agent is None else agent[0]
        chosen = least_trusted(model, tables, jobs, self.episodes, agent, self.explore, count)
        return chosen, {"candidates": self.candidates, "world_model": model.fingerprint()}

    def _recorder(self, count: int, size: int) -> Record:
        """What records episodes. Other machines may not have the agent's folder, so the agent itself goes there."""
        agent: str | tuple[WorldModel, Agent] | None = self.agent
        if self.ray is not None and self.agent is not None:
            agent = load_agent(self.world_model, self.agent, "cpu")
        return partial(
            record_episodes,
            size=size,
            agent=agent,
            world_model=self.world_model,
            explore=self.explore,
            sim=self.sim,
            count=count,
        )

    def _about_agent(self, size: int) -> dict[str, Any]:
        """What the dataset says of an agent; one that does not fit is an error now, not in the first episode."""
        if self.agent is None:
            return {}
        model, loaded = load_agent(self.world_model, self.agent)
        AgentDriver(model, loaded, np.zeros((size, size, 3), np.uint8), self.seed)
        return {"agent": loaded.fingerprint(), "world_model": model.fingerprint(), "explore": self.explore}


def main(argv: Sequence[str] | None = None) -> int:
    """The `cosmos-wm collect` command."""
    return cli.run(Collect, "collect", argv)


if __name__ == "__main__":
    sys.exit(main())
