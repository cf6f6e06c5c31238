"""Is a recording of the world that a bundle knows? One step is dreamed after every real frame, and held against it.

A network errs to all sides. Where friction or mass are others, it errs to one: what moves goes less far than dreamed,
or farther, again and again. So beside the size of the errors their mean along the way counts, which noise touches less.
Of a table this is told by where things are, of a foreign environment's twin by its observations.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from ..borders import ours
from ..data.episodes import Episode
from ..data.stored import observed
from ..rollout import DreamEngine
from ..world_model import WorldModel
from .ground_truth import Floats

MOVES = 3e-3  # metres in a step; what moves less is at rest, as far as the readout can tell
NEAR = 3.0  # radii of the goal from agent to object, within which the one may touch the other
FEWEST = 10  # episodes of a kind, to know what is usual
LEVEL, SURE = 0.95, 0.01  # an episode above that share of the known ones surprises; how rarely chance may look so
_STEPS = 3  # of an episode, or a figure of it is unknown


@ours
def signs(world_model: WorldModel, episode: Episode) -> Floats:
    """How the next frame differs from what is dreamed of it, (F,), NaN where an episode cannot tell.

    Args:
        world_model: With a readout or heads; its dynamics dreams one step after every real frame.
        episode: Of its scene.

    Returns:
        Of object and agent the logarithm of their mean error in metres while they move; their mean error along their
        way, which is negative where they go farther than dreamed, while the object moves; that of the agent once more
        near the object. Of a twin, of every component of its observation in standard deviations, the logarithm of the
        mean error, and the mean error along its way and at all.
    """
    latents, length = world_model.encode(episode.frames), int(world_model.dynamics.context_length)
    perception, last = world_model.perception, range(length - 1, len(episode))
    if not last or (perception.readout is None and perception.heads is None):
        return np.full(_count(world_model), np.nan)
    actions = torch.from_numpy(episode.actions).to(world_model.device)
    past = perception.scale_actions(torch.stack([actions[t - length + 1 : t] for t in last]))
    contexts = torch.stack([latents[t - length + 1 : t + 1] for t in last])
    engine = DreamEngine(world_model, len(contexts))
    after = engine.open_loop(contexts, actions[length - 1 :, None], past=past)[:, 0]
    if (heads := perception.heads) is not None:
        memory = heads.follow(heads.remember(contexts, past), after, perception.scale_actions(actions[length - 1 :]))
        truth = heads.normalised(torch.from_numpy(observed(episode, world_model.scene)[length - 1 :]).to(after.device))
        return _signs_of_twin(*(part.double().cpu().numpy() for part in (heads.observe(memory), truth)))
    dreamed, seen = (
        world_model.locate(part).positions.double().cpu().numpy() for part in (after, latents[length - 1 :])
    )
    there = [name in episode.positions or not episode.positions for name in world_model.scene.marker_names]
    return _signs(dreamed, seen, there, world_model.scene.agent_index, NEAR * world_model.scene.goal_radius)


def _count(world_model: WorldModel) -> int:
    """How many signs there are."""
    heads = world_model.perception.heads
    return 3 * heads.config.observed if heads is not None else 5 if world_model.scene.agent else 2


def _signs_of_twin(dreamed: Floats, seen: Floats) -> Floats:
    """See `signs`: of dreamed observations (T, D) and those of the environment, (T + 1, D)."""
    off, way = dreamed - seen[1:], np.sign(np.diff(seen, axis=0))
    return np.concatenate([np.log(np.abs(off).mean(axis=0) + 1e-9), (off * way).mean(axis=0), off.mean(axis=0)])


def _signs(dreamed: Floats, seen: Floats, there: Sequence[bool], agent: int | None, near: float) -> Floats:
    """See `signs`: of dreamed positions (T, N, 2) and those that are seen, (T + 1, N, 2)."""
    way, off = np.diff(seen, axis=0), dreamed - seen[1:]
    far = np.linalg.norm(way, axis=-1)
    along, size = (off * way).sum(axis=-1) / np.maximum(far, 1e-9), np.linalg.norm(off, axis=-1)
    moves = far > MOVES
    found = [np.log(_mean(size[:, 0], moves[:, 0])), _mean(along[:, 0], moves[:, 0])]
    if agent is not None:
        close = np.linalg.norm(seen[:-1, 0] - seen[:-1, agent], axis=-1) < near
        own = moves[:, agent] & there[agent]
        found += [np.log(_mean(size[:, agent], own)), _mean(along[:, agent], own & moves[:, 0])]
        found.append(_mean(along[:, agent], own & close))
    return np.array(found)


def _mean(values: Floats, chosen: NDArray[np.bool_]) -> float:
    return float(values[chosen].mean()) if chosen.sum() >= _STEPS else np.nan


def surprises(rows: Floats, known: Floats) -> Floats:
    """How many usual deviations the signs of every episode are from their usual values, root mean square, (n,).

    Args:
        rows: Of `signs`, (n, F).
        known: The same of episodes of the known world, (m, F); a sign that fewer than three of them have is left out.
    """
    told = np.isfinite(known).sum(axis=0) >= 3
    if not told.any():
        return np.full(len(rows), np.nan)
    usual, spread = np.nanmean(known[:, told], axis=0), np.nanstd(known[:, told], axis=0, ddof=1)
    squared = ((rows[:, told] - usual) / np.maximum(spread, 1e-9)) ** 2
    count = np.isfinite(squared).sum(axis=1)
    return np.where(count > 0, np.sqrt(np.nansum(squared, axis=1) / np.maximum(count, 1)), np.nan)


def auroc(others: Floats, own: Floats) -> float:
    """How often one of the others is larger than one of our own; NaN where there is none of either."""
    others, own = others[np.isfinite(others)], own[np.isfinite(own)]
    if not len(others) or not len(own):
        return np.nan
    return float(stats.mannwhitneyu(others, own).statistic / (len(others) * len(own)))


@dataclass(frozen=True)
class Strange:
    """How many episodes of a kind surprise more than known ones do.

    Attributes:
        kind: Of the episodes.
        share: Of them that surprise more than nearly all known ones (`LEVEL`).
        chance: Probability of a share as large where the world is the known one.
    """

    kind: str
    share: float
    chance: float

    @property
    def line(self) -> str:
        """In words; empty unless chance hardly looks so."""
        if self.chance >= SURE:
            return ""
        return (
            f"{self.kind}: {self.share:.0%} of these episodes surprise the bundle more than {LEVEL:.0%} of its own "
            "held-out ones do: another friction, mass, delay, lamp or camera than it knows?"
        )


def strange(world_model: WorldModel, known: Iterable[Episode], others: Iterable[Episode]) -> list[Strange]:
    """Whether episodes are of another world than known ones, per kind that both have enough of.

    Args:
        world_model: With a readout or heads.
        known: Held-out episodes of its own world, `FEWEST` of a kind or more; of each the others tell what is usual.
        others: Episodes that nobody knows anything about.
    """
    parts = []
    for episodes in (known, others):
        rows = [(episode.kind, signs(world_model, episode)) for episode in episodes]
        parts.append({kind: np.stack([row for own, row in rows if own == kind]) for kind in {own for own, _ in rows}})
    mine, theirs = parts
    return [
        _strange(kind, theirs[kind], mine[kind]) for kind in sorted(mine.keys() & theirs) if len(mine[kind]) >= FEWEST
    ]


def _strange(kind: str, rows: Floats, known: Floats) -> Strange:
    """See `strange`. Were all of one world, who is how far up would be drawn as balls from an urn."""
    each = [surprises(known[i : i + 1], np.delete(known, i, axis=0))[0] for i in range(len(known))]
    own, new = (part[np.isfinite(part)] for part in (np.array(each), surprises(rows, known)))
    if not len(own) or not len(new):
        return Strange(kind, np.nan, 1.0)
    place = max(1, round((1 - LEVEL) * (len(own) + 1)))  # from above
    more = int((new > np.sort(own)[-place]).sum())
    chance = stats.nhypergeom.sf(more - 1, len(own) + len(new), len(new), place) if more else 1.0
    return Strange(kind, more / len(new), float(chance))
