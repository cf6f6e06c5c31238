"""Collect episodes from the real simulator into a Minari dataset: `cosmos-wm collect --episodes 300 --out DIR`."""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from cosmos_isaac_wm.data.collection import Job, collect, coverage, plan
from cosmos_isaac_wm.data.episodes import Episode
from cosmos_isaac_wm.envs.task import Task, to_numpy
from cosmos_isaac_wm.policies.agent import Agent
from cosmos_isaac_wm.policies.scripted import ExploringPusher
from cosmos_isaac_wm.sims.mujoco import MujocoTable
from cosmos_isaac_wm.train import cli
from cosmos_isaac_wm.world_model import WorldModel

NOISE = 0.2  # standard deviation of what is added to an agent's actions
_simulators: dict[tuple[str, int], MujocoTable] = {}  # one OpenGL context per process, kind and size


@functools.cache
def _loaded(world_model: str, agent: str) -> tuple[WorldModel, Agent]:
    return WorldModel.load(world_model), Agent.load(agent)


class AgentDriver:
    """An agent that goes from goal to goal, a little noisily; it sees pictures, through a bundle's eyes.

    Args:
        world_model: The bundle.
        agent: The agent.
        frame: The first picture.
        seed: Of goals and noise.

    Raises:
        ValueError: If the agent wants other observations or several at once, or the bundle pictures of another size.
    """

    def __init__(self, world_model: WorldModel, agent: Agent, frame: NDArray[np.uint8], seed: int):
        if agent.frame_stack > 1:
            raise ValueError("an agent of stacked observations cannot collect; train one with frame_stack 1")
        if frame.shape[:2] != world_model.scene.image_size:
            raise ValueError(
                f"the bundle sees pictures of {world_model.scene.image_size} pixels, not {frame.shape[:2]}; "
                f"collect with --size {world_model.scene.image_size[0]}"
            )
        self._model, self._agent, self._rng = world_model, agent, np.random.default_rng(seed)
        self._task = Task(world_model.perception, **agent.task_kwargs)
        agent.check(self._task, world_model.fingerprint())
        self._latent = self._seen(frame)
        self._observation = self._begin()

    def act(self) -> NDArray[np.float32]:
        """What to do now, (A,)."""
        action, _ = self._agent.predict(to_numpy(self._observation))
        low, high = self._task.action_space.low, self._task.action_space.high
        return np.clip(action[0] + self._rng.normal(0, NOISE, action[0].shape), low, high).astype(np.float32)

    def see(self, frame: NDArray[np.uint8], action: NDArray[np.float32]) -> None:
        """The picture that an action led to; at its goal the agent gets another one."""
        self._latent = self._seen(frame)
        self._observation, _, _, _, info = self._task.advance(
            self._latent, torch.from_numpy(action[None]).to(self._latent.device)
        )
        if bool(info["is_success"][0]):
            self._observation = self._begin()

    def _begin(self) -> Any:
        slot = torch.zeros(1, dtype=torch.int64, device=self._latent.device)
        pair = torch.stack([self._latent] * 2, dim=1)
        return self._task.start(slot, pair, [self._rng])[0]

    def _seen(self, frame: NDArray[np.uint8]) -> torch.Tensor:
        return self._model.encode(frame[None])


def record_episode(
    job: Job, size: int, agent: str | None = None, world_model: str = "default", explore: float = 0.0
) -> Episode:
    """Run one episode in MuJoCo: the exploring pusher, an agent, or a cube left to slide."""
    simulator = _simulators.setdefault((job.kind, size), MujocoTable(job.kind, (size, size)))
    simulator.reset(job.seed)
    pusher, driver = ExploringPusher(job.seed + 1), None
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

    def act() -> NDArray[np.float32]:
        if job.kind != "push":
            return np.zeros(2, np.float32)
        return pusher(simulator.positions()) if driver is None else driver.act()

    observe()
    if agent is not None and job.kind == "push" and np.random.default_rng(job.seed + 2).random() >= explore:
        driver = AgentDriver(*_loaded(world_model, agent), frames[0], job.seed + 3)
    for _ in range(job.steps):
        actions.append(act())
        simulator.step(actions[-1])
        observe()
        if driver is not None:
            driver.see(frames[-1], actions[-1])
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
    agent: str | None = None,
    world_model: str = "default",
    explore: float = 0.5,
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
        agent: Folder of an agent that pushes instead, from goal to goal; or the name of a shipped one.
        world_model: The bundle that the agent looks through.
        explore: Share of push episodes that stay with the scripted pusher when there is an agent.
        seed: Seed of everything; the same seed collects the same episodes.
    """
    probe = MujocoTable("push", (size, size))
    metadata: dict[str, Any] = {**probe.metadata(), "steps": steps, "seed": seed}
    if agent is not None:
        model, loaded = _loaded(world_model, agent)
        AgentDriver(model, loaded, np.zeros((size, size, 3), np.uint8), seed)  # what does not fit is an error now
        metadata |= {"agent": loaded.fingerprint(), "world_model": model.fingerprint(), "explore": explore}
    dataset = collect(
        out,
        plan(episodes, kind, seed, steps),
        partial(record_episode, size=size, agent=agent, world_model=world_model, explore=explore),
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
