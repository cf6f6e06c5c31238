"""How is an episode recorded? Tables are driven by a scripted pusher or an agent, and all that they show is kept."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.collection import Job
from ..data.episodes import Episode
from ..evaluation.baselines import CONTEXT_FRAMES, NOISE, SENSITIVITY_STEPS, opposite
from ..scene import TABLE
from ..sims import SimulatorName
from ..sims.tables import Playable, Tables, new_tables
from ..world_model import WorldModel
from .agent import Agent
from .driver import AgentDriver
from .scripted import ExploringPusher

_tables = functools.cache(new_tables)  # one OpenGL context or simulation per process, kind and size


@functools.cache
def load_agent(world_model: str, agent: str, device: str = "auto") -> tuple[WorldModel, Agent]:
    """The bundle and the agent that drives through its eyes, read once per process."""
    return WorldModel.load(world_model, device), Agent.load(agent)


def check_drawing(size: int, expected: Mapping[str, Any]) -> None:
    """Draw a picture with MuJoCo, here, and see that it is drawn as everywhere else.

    Args:
        size: Height and width of the picture.
        expected: What a dataset says of its simulator: `Tables.metadata`.

    Raises:
        OpenGLError: If there is no off-screen OpenGL.
        ValueError: If version or renderer are others.
    """
    tables = _tables("mujoco", "push", 1, (size, size))
    tables.reset([0])
    tables.render()
    own = tables.metadata()
    if differing := [f"{key} {own[key]} instead of {value}" for key, value in expected.items() if own[key] != value]:
        raise ValueError(f"episodes from here would be others ({', '.join(differing)})")


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


def record_episodes(
    jobs: Sequence[Job],
    size: int,
    agent: str | tuple[WorldModel, Agent] | None = None,
    world_model: str = "default",
    explore: float = 0.0,
    sim: SimulatorName = "mujoco",
    count: int = 1,
) -> list[Episode]:
    """Run episodes of one kind at once: the exploring pusher, an agent, or a cube left to slide.

    Args:
        jobs: Of one kind, length and number of restarts, as many as there are tables or fewer.
        size: Height and width of the pictures.
        agent: Folder of an agent that pushes instead, or the name of a shipped one; or what `load_agent` read of it.
        world_model: The bundle that the agent looks through, where it has a name.
        explore: Share of push episodes that stay with the scripted pusher when there is an agent.
        sim: The simulator.
        count: Tables that the simulator steps together.
    """
    tables = _tables(sim, jobs[0].kind, count, (size, size))
    driver = load_agent(world_model, agent) if isinstance(agent, str) else agent
    recorded = record_on(tables, jobs, explore, driver, count)
    if jobs[0].restarts and jobs[0].steps >= CONTEXT_FRAMES:
        _add_restarts(tables, jobs, recorded, count)
    return recorded


def record_on(
    tables: Playable,
    jobs: Sequence[Job],
    explore: float = 0.0,
    agent: tuple[WorldModel, Agent] | None = None,
    count: int = 1,
) -> list[Episode]:
    """`record_episodes` on what the caller has: tables of another world, or dreams; nothing is restarted there."""
    takes = [_Take(job, explore, agent) for job in jobs]

    def look() -> None:
        for take, frame, row in zip(takes, tables.render(), tables.observe(), strict=False):
            take.see(frame, row)

    tables.reset([job.seed for job in jobs])
    look()
    for _ in range(jobs[0].steps):
        tables.step(_padded(np.stack([take.act() for take in takes]), count))
        look()
    return [take.episode() for take in takes]


def _add_restarts(tables: Tables, jobs: Sequence[Job], episodes: Sequence[Episode], count: int) -> None:
    """Let episodes tell what `baselines` needs to know where the simulator is not at hand."""
    last = CONTEXT_FRAMES - 1
    states = np.stack([episode.infos["state"][last] for episode in episodes])
    recorded = np.stack([episode.actions[last:] for episode in episodes])

    def follow(actions: NDArray[np.float32], rngs: Sequence[np.random.Generator] = ()) -> list[list[dict[str, Any]]]:
        tables.restart(states)
        if rngs:
            tables.perturb(rngs, *NOISE)
        rows = []
        for now in actions.swapaxes(0, 1):
            tables.step(_padded(now, count))
            rows.append(tables.observe())
        return rows

    def tell(which: int, name: str, rows: list[list[dict[str, Any]]]) -> NDArray[np.float32]:
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
