"""Where does a dream trust itself least? Planned episodes are played in it, before any is played in the simulator."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from ..borders import ours
from ..data.collection import Job
from ..envs.sight import Sight
from ..error_bound import ErrorBound, read_of
from ..rollout import DreamEngine
from ..sims.tables import Playable
from ..world_model import WorldModel
from .agent import Agent
from .recording import record_on

_AT_ONCE = 64  # episodes that are dreamed together


class DreamedTables:
    """Dreams that begin where tables do, with everything at rest, and are played on as these are.

    Args:
        world_model: Dreams, and knows how far it may be off.
        bound: That it has learned.
        tables: Where episodes begin.
        count: How many of them start together.
        pictures: Whether somebody looks; if not, pictures are black.
    """

    def __init__(self, world_model: WorldModel, bound: ErrorBound, tables: Playable, count: int, pictures: bool):
        self._model, self._bound, self._tables, self._count = world_model, bound, tables, count
        self._shown = pictures
        self._seen, self._actions = list[torch.Tensor](), list[torch.Tensor]()

    def reset(self, seeds: Sequence[int]) -> None:
        """See `Playable`."""
        frames = []
        for first in range(0, len(seeds), self._count):
            some = seeds[first : first + self._count]
            self._tables.reset(some)
            frames.append(self._tables.render()[: len(some)])
        latents = self._model.encode(np.concatenate(frames))
        self._engine = DreamEngine(self._model, len(seeds), look=True)
        self._sight = Sight(self._model.perception, len(seeds))
        length = self._model.dynamics.context_length
        self._engine.reset(latents.unsqueeze(1).expand(-1, length, -1, -1, -1))
        every = torch.ones(len(seeds), dtype=torch.bool, device=latents.device)
        self._sight.start(every, self._sight.glimpse(latents.unsqueeze(1)))
        self._seen, self._actions = [read_of(self._model.perception.locate(latents))], []

    def step(self, actions: NDArray[np.float32]) -> None:
        """See `Playable`."""
        given = torch.from_numpy(actions).to(self._model.device)
        dreamed = self._engine.step(given)
        assert dreamed.located is not None
        self._sight.look(dreamed.latent, dreamed.located)
        self._seen.append(read_of(dreamed.located))
        self._actions.append(self._model.perception.scale_actions(given))

    def render(self) -> NDArray[np.uint8]:
        """See `Playable`."""
        if not self._shown:
            return np.zeros((self._engine.num_dreams, *self._model.scene.image_size, 3), np.uint8)
        return self._model.decode(self._engine.newest).cpu().numpy()

    def observe(self) -> list[dict[str, Any]]:
        """See `Playable`: where the readout sees the markers, or saw them last."""
        names = self._model.scene.marker_names
        return [
            {f"{name}_position": place for name, place in zip(names, places, strict=True)}
            for places in self._sight.positions.double().cpu().numpy()
        ]

    def doubts(self, kind: str) -> NDArray[np.float32]:
        """How far each dream may be off on average over its steps so far, by its estimate, in metres, (N,)."""
        seen, actions = torch.stack(self._seen, dim=1), torch.stack(self._actions, dim=1)
        estimates = self._bound.along(seen, actions, self._bound.number(kind))
        return estimates.mean(dim=(1, 2)).cpu().numpy().astype(np.float32)


@ours
def least_trusted(
    world_model: WorldModel,
    tables: Playable,
    jobs: Sequence[Job],
    episodes: int,
    agent: tuple[WorldModel, Agent] | None = None,
    explore: float = 0.0,
    count: int = 1,
) -> list[Job]:
    """Those of planned pushes whose dreams may be farthest off, as a plan of their own.

    Each is dreamed from the first picture on, driven by whom it would be driven by in the simulator.

    Args:
        world_model: Whose dreams.
        tables: Where the episodes begin.
        jobs: The planned ones, all of kind "push".
        episodes: How many are to be left.
        agent: As of `record_on`, and so is the next.
        explore: See there.
        count: Tables that start together.

    Raises:
        ValueError: If the bundle does not know how far its dreams may be off.
    """
    bound = world_model.error_bound
    if bound is None or world_model.perception.readout is None:
        raise ValueError(
            "candidates are chosen by how far their dreams may be off, which the bundle does not know: fit-dynamics "
            "learns it where there are enough validation episodes"
        )
    dreams = DreamedTables(world_model, bound, tables, count, agent is not None)
    doubts = list[float]()
    for part in _parts(jobs):
        record_on(dreams, part, explore, agent, len(part))
        doubts += dreams.doubts("push").tolist()
    chosen = sorted(np.argsort(-np.asarray(doubts), kind="stable")[:episodes])
    return [replace(jobs[number], index=index) for index, number in enumerate(chosen)]


def _parts(jobs: Sequence[Job]) -> Iterable[Sequence[Job]]:
    firsts = range(0, len(jobs), _AT_ONCE)
    return (jobs[first : first + _AT_ONCE] for first in tqdm(firsts, desc="dream", unit=f"{_AT_ONCE} episodes"))
