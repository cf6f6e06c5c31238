"""Collect episodes from a real simulator into a Minari dataset: `cosmos-wm collect --episodes 300 --out DIR`."""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from cosmos_isaac_wm.data.collection import Job, collect, plan
from cosmos_isaac_wm.data.coverage import coverage
from cosmos_isaac_wm.data.episodes import Episode
from cosmos_isaac_wm.envs.task import Task, to_numpy
from cosmos_isaac_wm.evaluation.baselines import CONTEXT_FRAMES, FLOOR_DRAWS, NOISE, SENSITIVITY_STEPS, opposite
from cosmos_isaac_wm.policies.agent import Agent
from cosmos_isaac_wm.policies.scripted import ExploringPusher
from cosmos_isaac_wm.scene import TABLE
from cosmos_isaac_wm.sims import SimulatorName
from cosmos_isaac_wm.sims.mujoco import MujocoTable
from cosmos_isaac_wm.train import cli
from cosmos_isaac_wm.world_model import WorldModel

ACTION_NOISE = 0.2  # standard deviation of what is added to an agent's actions


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
        return np.clip(action[0] + self._rng.normal(0, ACTION_NOISE, action[0].shape), low, high).astype(np.float32)

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


class Tables(Protocol):
    """Simulators of one kind that step together, N of them; what `record_episodes` drives."""

    def reset(self, seeds: Sequence[int]) -> None:
        """Start an episode on each; where there are fewer seeds, the last tables do not matter."""

    def restart(self, states: NDArray[np.float64]) -> None:
        """Go back to states (N, S); where there are fewer, the last tables do not matter."""

    def perturb(self, rngs: Sequence[np.random.Generator], position_m: float, angle_rad: float) -> None:
        """Jitter the poses on the first tables, each with a generator of its own."""

    def step(self, actions: NDArray[np.float32]) -> None:
        """Hold actions (N, A) for one control step."""

    def render(self) -> NDArray[np.uint8]:
        """Pictures (N, H, W, 3)."""

    def observe(self) -> list[dict[str, Any]]:
        """What is true of each: `<marker>_position`, `cube_pose` (w, x, y, z), `state`, `contact`."""


class MujocoTables:
    """One table in MuJoCo, which runs in parallel as processes do, not in a batch."""

    def __init__(self, kind: str, size: int):
        self._table = MujocoTable(kind, (size, size))

    def reset(self, seeds: Sequence[int]) -> None:
        """See `Tables`."""
        (seed,) = seeds
        self._table.reset(seed)

    def restart(self, states: NDArray[np.float64]) -> None:
        """See `Tables`."""
        (state,) = states
        self._table.set_state(state)

    def perturb(self, rngs: Sequence[np.random.Generator], position_m: float, angle_rad: float) -> None:
        """See `Tables`."""
        (rng,) = rngs
        self._table.perturb(rng, position_m, angle_rad)

    def step(self, actions: NDArray[np.float32]) -> None:
        """See `Tables`."""
        self._table.step(actions[0])

    def render(self) -> NDArray[np.uint8]:
        """See `Tables`."""
        return self._table.render()[None]

    def observe(self) -> list[dict[str, Any]]:
        """See `Tables`."""
        table = self._table
        known = {"cube_pose": table.cube_pose(), "state": table.get_state(), "contact": table.in_contact()}
        return [{f"{name}_position": place for name, place in table.positions().items()} | known]


class _Take:
    """One episode as it is recorded."""

    def __init__(self, job: Job, explore: float, agent: tuple[WorldModel, Agent] | None):
        self._job, self._agent = job, agent
        self._driver: AgentDriver | None = None
        scripted = agent is None or np.random.default_rng(job.seed + 2).random() < explore
        self._by_agent = job.kind == "push" and not scripted
        self._pusher = ExploringPusher(job.seed + 1)
        self._frames: list[NDArray[np.uint8]] = []
        self._actions: list[NDArray[np.float32]] = []
        self._rows: list[dict[str, Any]] = []

    def see(self, frame: NDArray[np.uint8], row: dict[str, Any]) -> None:
        """Keep what a step led to."""
        self._frames.append(frame)
        self._rows.append(row)
        if self._driver is not None:
            self._driver.see(frame, self._actions[-1])
        elif self._by_agent and self._agent is not None:
            self._driver = AgentDriver(*self._agent, frame, self._job.seed + 3)

    def act(self) -> NDArray[np.float32]:
        """The next action."""
        if self._job.kind != "push":
            action = np.zeros(2, np.float32)
        elif self._driver is not None:
            action = self._driver.act()
        else:
            row = self._rows[-1]
            places = {key.removesuffix("_position"): row[key] for key in row if key.endswith("_position")}
            action = self._pusher(places)
        self._actions.append(action)
        return action

    def episode(self) -> Episode:
        """The whole."""
        columns = {key: np.stack([np.asarray(row[key]) for row in self._rows]) for key in self._rows[0]}
        positions = {
            key.removesuffix("_position"): columns.pop(key).astype(np.float32)
            for key in list(columns)
            if key.endswith("_position")
        }
        job = self._job
        return Episode(np.stack(self._frames), np.stack(self._actions), job.kind, job.seed, positions, columns)


@functools.cache  # one OpenGL context or simulation per process, kind and size
def _tables(sim: str, kind: str, size: int, count: int) -> Tables:
    if sim == "mujoco":
        return MujocoTables(kind, size)
    from cosmos_isaac_wm.sims.isaac_lab import IsaacLabTables

    return IsaacLabTables(kind, count, (size, size))


def record_episodes(
    jobs: Sequence[Job],
    size: int,
    agent: str | None = None,
    world_model: str = "default",
    explore: float = 0.0,
    sim: str = "mujoco",
    count: int = 1,
) -> list[Episode]:
    """Run episodes of one kind at once: the exploring pusher, an agent, or a cube left to slide.

    Args:
        jobs: Of one kind, length and number of restarts, as many as there are tables or fewer.
        size: Height and width of the pictures.
        agent: See `run`.
        world_model: See `run`.
        explore: See `run`.
        sim: See `run`.
        count: Tables that the simulator steps together.
    """
    tables = _tables(sim, jobs[0].kind, size, count)
    takes = [_Take(job, explore, None if agent is None else _loaded(world_model, agent)) for job in jobs]
    steps = jobs[0].steps

    def look() -> None:
        for take, frame, row in zip(takes, tables.render(), tables.observe(), strict=False):
            take.see(frame, row)

    tables.reset([job.seed for job in jobs])
    look()
    for _ in range(steps):
        tables.step(_padded(np.stack([take.act() for take in takes]), count))
        look()
    recorded = [take.episode() for take in takes]
    if jobs[0].restarts and steps >= CONTEXT_FRAMES:
        _add_restarts(tables, jobs, recorded, count)
    return recorded


def _add_restarts(tables: Tables, jobs: Sequence[Job], episodes: Sequence[Episode], count: int) -> None:
    """Let episodes tell what `baselines` needs to know where the simulator is not at hand."""
    last = CONTEXT_FRAMES - 1
    states = np.stack([episode.infos["state"][last] for episode in episodes])
    recorded = np.stack([episode.actions[last:] for episode in episodes])

    def follow(actions: NDArray[np.float32], rngs: Sequence[np.random.Generator] = ()) -> list[list[Any]]:
        tables.restart(states)
        if rngs:
            tables.perturb(rngs, *NOISE)
        rows = []
        for now in actions.swapaxes(0, 1):
            tables.step(_padded(now, count))
            rows.append(tables.observe())
        return rows

    def tell(which: int, name: str, rows: list[list[Any]]) -> NDArray[np.float32]:
        track = np.full((1 + len(episodes[which]), 2), np.nan, np.float32)
        track[last + 1 :][: len(rows)] = [row[which][f"{name}_position"] for row in rows]
        return track

    rngs = [np.random.default_rng(job.seed + 4) for job in jobs]
    restarted = [follow(recorded, rngs) for _ in range(jobs[0].restarts)]
    turned = None
    if TABLE.agent in episodes[0].positions:
        turned = follow(opposite(recorded[:, :SENSITIVITY_STEPS], TABLE))
    for which, episode in enumerate(episodes):
        for name in episode.positions:
            episode.infos[f"{name}_restarted"] = np.stack([tell(which, name, rows) for rows in restarted], axis=1)
            if turned is not None:
                episode.infos[f"{name}_opposed"] = tell(which, name, turned)


def _padded(actions: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Actions (n, A), and none for the tables from n to `count`."""
    return np.concatenate([actions, np.zeros((count - len(actions), *actions.shape[1:]), np.float32)])


def run(
    out: Path,
    episodes: int = 300,
    kind: Literal["push", "slide", "both"] = "both",
    sim: SimulatorName = "mujoco",
    workers: int | None = None,
    tables: int = 16,
    size: int = 128,
    steps: int = 100,
    agent: str | None = None,
    world_model: str = "default",
    explore: float = 0.5,
    seed: int = 0,
) -> dict[str, float]:
    """Collect episodes in a simulator with pictures, true positions and complete states, resumably.

    Args:
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
    """
    jobs, count = plan(episodes, kind, seed, steps), 1
    workers = workers or (1 if sim == "isaac-lab" else 2)
    if sim == "isaac-lab":
        from cosmos_isaac_wm.sims.isaac_lab import IsaacLabTables

        probe: Any = IsaacLabTables("push", tables, (size, size))
        count = tables
        more: dict[str, Any] = {"tables": tables}
    else:
        probe, more = MujocoTable("push", (size, size)), {}
    metadata: dict[str, Any] = {**probe.metadata(), **more, "steps": steps, "seed": seed}
    if agent is not None:
        model, loaded = _loaded(world_model, agent)
        AgentDriver(model, loaded, np.zeros((size, size, 3), np.uint8), seed)  # what does not fit is an error now
        metadata |= {"agent": loaded.fingerprint(), "world_model": model.fingerprint(), "explore": explore}
    dataset = collect(
        out,
        jobs,
        partial(
            record_episodes, size=size, agent=agent, world_model=world_model, explore=explore, sim=sim, count=count
        ),
        probe.scene,
        metadata,
        workers=workers,
        split_seed=seed,
        together=count,
        restarts=FLOOR_DRAWS if sim == "isaac-lab" else 0,  # whoever reads these episodes has seldom Isaac Lab at hand
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
