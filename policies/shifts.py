"""Does a bundle notice another world? It meets other friction, mass and lamp, late control, Isaac Lab's pictures."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ..borders import ours
from ..data.collection import plan
from ..data.dataset import EpisodeDataset
from ..data.episodes import Episode
from ..envs.real_env import own_simulator
from ..evaluation.surprise import FEWEST, auroc, signs, surprises
from ..evaluation.trust import Doubted, doubted_each, trust_figures
from ..scene import KINDS, TABLE
from ..sims.shifts import ShiftedTable, shifts_of
from ..sims.tables import MujocoTables
from ..storage.bundle import find_bundle
from ..world_model import WorldModel
from .recording import record_on

STEPS = 100  # of an episode, as they are collected
_STREAM = 23  # of the seeds, apart from those that `collect` plans with
UNSHIFTED, ISAAC = "unshifted", "isaac"


def must_be_shiftable(world_model: WorldModel, count: int) -> None:
    """Say now what would be in the way of `shift_figures`.

    Raises:
        ValueError: If the bundle's world is not the table in MuJoCo, or the episodes are too few.
        OpenGLError: If nothing can be drawn here.
    """
    scene = world_model.scene
    if scene.name != TABLE.name or own_simulator(world_model) != "mujoco" or world_model.perception.readout is None:
        raise ValueError(f"--shifts changes our table in MuJoCo, which the bundle of scene {scene.name!r} is not of")
    if count < FEWEST:
        raise ValueError(f"--shifts needs {FEWEST} episodes or more of every world, not {count}")
    table = ShiftedTable("slide", None, scene.image_size)
    try:
        table.reset(0)
        table.render()
    finally:
        table.close()


@ours
def shift_figures(world_model: WorldModel, count: int, seed: int = 0, steps: int = STEPS) -> dict[str, float]:
    """How well surprise tells shifted worlds from the known one, and whether error bounds hold there.

    Args:
        world_model: One that `must_be_shiftable` has nothing against.
        count: Episodes of every kind and world, driven by the scripted pusher from the same starts. As many more of
            the known world say what is usual.
        seed: Of all of them.
        steps: Of an episode.

    Returns:
        `auroc_shifted_<shift>_<kind>`: how often an episode of the shifted world surprises more than one of the known
        world; `auroc_shifted`, their mean; where the bundle has a bound `<kind>_bound_coverage_90_<shift>`, and the
        same of `unshifted`.
    """
    found: dict[str, float] = {}
    for kind in KINDS:
        usual = tqdm(
            _recorded(world_model, kind, None, count, seed + 1, steps), f"{kind}, usual", count, unit="episode"
        )
        known = np.array([signs(world_model, episode) for episode in usual])
        fresh, doubts = _measured(world_model, _recorded(world_model, kind, None, count, seed, steps), UNSHIFTED, kind)
        own = surprises(fresh, known)
        found |= _coverage(world_model, kind, UNSHIFTED, doubts)
        for shift in (*shifts_of(kind), ISAAC):
            episodes = (
                _isaac(world_model, kind, count)
                if shift == ISAAC
                else _recorded(world_model, kind, shift, count, seed, steps)
            )
            rows, doubts = _measured(world_model, episodes, shift, kind)
            if len(rows):
                found[f"auroc_shifted_{shift}_{kind}"] = auroc(surprises(rows, known), own)
                found |= _coverage(world_model, kind, shift, doubts)
    told = [value for name, value in found.items() if name.startswith("auroc_shifted_")]
    return {"auroc_shifted": float(np.mean(told)), **found}


def _measured(
    world_model: WorldModel, episodes: Iterator[Episode], shift: str, kind: str
) -> tuple[NDArray[np.float64], list[Doubted]]:
    """Signs of surprise, a row an episode, and what is said of the errors."""
    rows, doubts = [], []
    for episode in tqdm(episodes, desc=f"{kind}, {shift}", unit="episode"):
        rows.append(signs(world_model, episode))
        doubts += doubted_each(world_model, [episode])
    return np.array(rows), doubts


def _recorded(
    world_model: WorldModel, kind: str, shift: str | None, count: int, seed: int, steps: int
) -> Iterator[Episode]:
    """Episodes of a world, recorded as they are asked for."""
    table = ShiftedTable(kind, shift, world_model.scene.image_size)
    tables = MujocoTables(kind, world_model.scene.image_size, table)
    drawn = int(np.random.SeedSequence([seed, _STREAM]).generate_state(1)[0])
    try:
        for job in plan(count, kind, drawn, steps):
            yield record_on(tables, [job])[0]
    finally:
        table.close()


def _isaac(world_model: WorldModel, kind: str, count: int) -> Iterator[Episode]:
    """Held-out episodes of Isaac Lab's table, which another shipped bundle has; none where its pictures are larger."""
    dataset = EpisodeDataset(find_bundle("isaac") / "episodes")
    if dataset.scene.image_size != world_model.scene.image_size:
        return
    chosen = [index for index in range(len(dataset)) if dataset.kinds[index] == kind]
    for index in chosen[:count]:
        yield dataset[index]


def _coverage(world_model: WorldModel, kind: str, shift: str, doubts: list[Doubted]) -> dict[str, float]:
    """The share of a world's episodes for which the bound holds that is said to hold for 90 %."""
    told = trust_figures(world_model.error_bound, doubts).get(f"{kind}_bound_coverage_90")
    return {} if told is None else {f"{kind}_bound_coverage_90_{shift}": told}


def shift_table(figures: dict[str, float]) -> str:
    """The figures as Markdown, a row a world."""
    lines = ["| world | " + " | ".join(f"{kind}: surprise, bound holds" for kind in KINDS) + " |"]
    lines.append("|---" * (1 + len(KINDS)) + "|")
    for shift in (UNSHIFTED, *shifts_of("push"), ISAAC):
        cells = []
        for kind in KINDS:
            parts = [
                figures.get(name) for name in (f"auroc_shifted_{shift}_{kind}", f"{kind}_bound_coverage_90_{shift}")
            ]
            cells.append(", ".join("-" if part is None else f"{part:.2f}" for part in parts))
        lines.append(f"| {shift} | {' | '.join(cells)} |")
    lines.append(f"\nauroc_shifted: {figures['auroc_shifted']:.3f}")
    return "\n".join(lines)
