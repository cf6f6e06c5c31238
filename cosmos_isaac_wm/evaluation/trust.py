"""Is what a dream says of its own error true? How often its bound holds, how wide it is, and whether it knows when."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from ..borders import ours
from ..data.dataset import EpisodeDataset
from ..data.episodes import Episode
from ..data.stored import observed
from ..error_bound import LEVEL, ErrorBound, read_of
from ..world_model import WorldModel
from .open_loop import dream, first_dreamed
from .surprise import auroc
from .twins import foretold

Floats = NDArray[np.float64]

LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
_FAR = {True: ("auroc_off_1std", 1.0), False: ("auroc_off_3cm", 0.03)}  # of a twin, and of the table: figure, error


@dataclass(frozen=True)
class Doubted:
    """A dream of T steps, how far it was off, and how far it was said to be.

    Attributes:
        kind: Of the episode.
        errors: In metres, or standard deviations of an observation, (T, O).
        estimates: What is made a bound of by `ErrorBound.factor`, (T, O).
        usual: What nine in ten training dreams are not off by, (T, O).
    """

    kind: str
    errors: Floats
    estimates: Floats
    usual: Floats


@ours
def doubted(world_model: WorldModel, dataset: EpisodeDataset, indices: Sequence[int]) -> list[Doubted]:
    """Dream held-out episodes, and compare what is said of the error with it; nothing without an error bound."""
    if world_model.error_bound is None:
        return []
    return doubted_each(world_model, (dataset[i] for i in tqdm(indices, desc="doubt and compare", unit="episode")))


@ours
def doubted_each(world_model: WorldModel, episodes: Iterable[Episode]) -> list[Doubted]:
    """The same of episodes from anywhere; of those that are long enough and of which the truth is known."""
    bound, first = world_model.error_bound, first_dreamed(world_model)
    if bound is None:
        return []
    rows = [_compared(world_model, bound, episode, first) for episode in episodes if len(episode) >= first]
    return [row for row in rows if np.isfinite(row.errors).any()]


def _compared(world_model: WorldModel, bound: ErrorBound, episode: Episode, first: int) -> Doubted:
    """One episode, for as many steps as the bound was scaled on."""
    steps = min(bound.config.steps, len(episode.frames) - first)
    latents, heads = dream(world_model, [episode], steps, first=first)[0], world_model.perception.heads
    scaled = world_model.perception.scale_actions(torch.from_numpy(episode.actions).to(world_model.device))
    if heads is not None:
        told = foretold(world_model, episode, latents, first)
        read = np.concatenate([told.begun[None], told.observed])
        true = observed(episode, world_model.scene)[first:][:steps]
        seen, goal = (heads.normalised(torch.from_numpy(part).to(world_model.device)) for part in (read, true))
        errors = (seen[1:] - goal).abs()
    else:
        known = world_model.encode(episode.frames[first - 1 : first])
        located = world_model.locate(torch.cat([known, latents]))
        seen = read_of(located)
        places = torch.from_numpy(episode.marker_positions(world_model.scene.marker_names)[first:][:steps, :1])
        errors = (located.positions[1:, :1] - places.to(latents)).norm(dim=-1)
    number, followed = bound.number(episode.kind), scaled[first - 1 : first - 1 + steps]
    parts = (errors, bound.along(seen[None], followed[None], number)[0], bound.usual[number, :steps])
    return Doubted(episode.kind, *(part.double().cpu().numpy() for part in parts))


def trust_figures(bound: ErrorBound | None, rows: Sequence[Doubted]) -> dict[str, float]:
    """What an error bound is worth on dreams that have not scaled it.

    Args:
        bound: The bundle's.
        rows: Of `doubted`.

    Returns:
        Per kind `<kind>_bound_coverage_<50 to 95>`: the share of episodes in which it holds at all steps (and of every
        component) at once; `<kind>_bound_width`, its mean, in metres or standard deviations; and
        `<kind>_bound_width_over_step_only`, as a share of that of a bound that knows the step's number only. Of all
        steps together `auroc_off_3cm`, or of a twin `auroc_off_1std`: how often a step that is off by more has a larger
        estimate than one that is not.
    """
    if bound is None or not rows:
        return {}
    found: dict[str, float] = {}
    for kind in sorted({row.kind for row in rows}):
        own = [row for row in rows if row.kind == kind]
        for level in LEVELS:
            try:
                factor, plain = bound.factor(kind, level), bound.factor(kind, level, usual=True)
            except ValueError:  # too few episodes have scaled it for that level
                continue
            holds = [not (row.errors > factor * row.estimates).any() for row in own]
            found[f"{kind}_bound_coverage_{100 * level:.0f}"] = float(np.mean(holds))
            if level == LEVEL:
                width, step_only = (
                    float(np.mean(np.concatenate([by * getattr(row, name) for row in own])))
                    for by, name in ((factor, "estimates"), (plain, "usual"))
                )
                found |= {f"{kind}_bound_width": width, f"{kind}_bound_width_over_step_only": width / step_only}
    name, far = _FAR[bound.config.seen == bound.config.outputs]  # a twin's bound is of all that is read
    errors, estimates = (np.concatenate([getattr(row, part) for row in rows]) for part in ("errors", "estimates"))
    known = np.isfinite(errors)
    off = errors[known] > far
    if off.any() and not off.all():
        found[name] = auroc(estimates[known][off], estimates[known][~off])
    return found
