"""How is it learned how far dreams may be off? Where dreams of training episodes meet the truth; others scale it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..borders import ours, training_mode
from ..data.windows import EncodedEpisodes
from ..error_bound import LEVEL, ErrorBound, ErrorBoundConfig, enough, read_of
from ..perception import Perception
from .optimizer import descend
from .validation import dreamed, scaled_actions, unit_of

_STEPS = 100  # of an episode at most
_EPISODES = 1600  # that are dreamed at most
_AT_ONCE = 64
_QUANTILE = 0.9  # of the error that the estimate aims at, at every step
_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the usual error in estimates; validation chooses
_LEAST = {"mm": 2e-3, "px": 2e-3, "std": 0.02}  # metres, or standard deviations


@dataclass(frozen=True)
class ErrorBoundFitConfig:
    """How an error bound is trained.

    Attributes:
        updates: Optimiser steps; 0 for no bound.
        batch_size: Dreamed episodes in each.
        lr: Peak learning rate of AdamW under a one-cycle schedule.
        hidden: Numbers that are carried from step to step.
    """

    updates: int = 800
    batch_size: int = 64
    lr: float = 1e-3
    hidden: int = 16


@dataclass
class Followed:
    """E dreams of T steps, and how far they were off.

    Attributes:
        seen: What was read, at first and after every step, (E, T + 1, I).
        actions: Scaled, (E, T, A).
        errors: After every step, in the unit of the bounds, (E, T, O); NaN where there was no truth.
        kinds: Of the episodes.
    """

    seen: Tensor
    actions: Tensor
    errors: Tensor
    kinds: list[str]

    def known(self) -> Followed:
        """Without dreams of which no truth is known."""
        rows = self.errors.isfinite().flatten(1).any(dim=1)
        kinds = [kind for kind, known in zip(self.kinds, rows.tolist(), strict=True) if known]
        return Followed(self.seen[rows], self.actions[rows], self.errors[rows], kinds)


@training_mode()
def fit_error_bound(
    dynamics: nn.Module,
    perception: Perception,
    train: EncodedEpisodes,
    val: EncodedEpisodes,
    config: ErrorBoundFitConfig,
    seed: int,
) -> ErrorBound | None:
    """Learn how far dreams are off, and scale it on validation episodes.

    Args:
        dynamics: Trained; dreams.
        perception: Reads positions or observations.
        train: Episodes to learn from.
        val: Others, which scale the bound: as many of each kind as its level needs, or there is none.
        config: The recipe.
        seed: Of weights and batches.

    Returns:
        The bound; None, and a word, where nothing is read that could be compared, or there are too few episodes.
    """
    unit = unit_of(perception, val)
    if unit == "latent" or not config.updates:
        return None
    dynamics.eval()
    judged = follow_dreams(dynamics, perception, val).known()
    counts = {kind: judged.kinds.count(kind) for kind in sorted(set(val.kinds))}
    if min(counts.values()) < enough(LEVEL):
        told = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        print(f"no error bound: {told} validation episodes, and {enough(LEVEL)} of each kind are needed")
        return None
    learned = follow_dreams(dynamics, perception, train).known()
    torch.manual_seed(seed)
    bound = _new_bound(learned, counts, config.hidden)
    bound.least.fill_(_LEAST[unit])
    generator = torch.Generator().manual_seed(seed)

    def loss() -> Tensor:
        picks = torch.randint(len(learned.kinds), (config.batch_size,), generator=generator)
        errors = learned.errors[picks]
        known = errors.isfinite()
        estimates = bound.along(learned.seen[picks], learned.actions[picks])
        missed = ((errors.nan_to_num() + bound.least).log() - estimates.log())[known]
        return torch.maximum(_QUANTILE * missed, (_QUANTILE - 1) * missed).sum() / max(1, len(missed))

    descend(bound, loss, config.updates, config.lr, "fit error bound")
    _scale(bound, learned, judged)
    return bound


def _new_bound(learned: Followed, counts: Mapping[str, int], hidden: int) -> ErrorBound:
    """An untrained one, for so many validation episodes of each kind, with the statistics of what is read."""
    shape = ErrorBoundConfig(
        learned.seen.shape[2],
        learned.actions.shape[2],
        learned.errors.shape[2],
        hidden,
        tuple(counts),
        tuple(counts.values()),
        learned.errors.shape[1],
    )
    bound, rows = ErrorBound(shape), learned.seen.flatten(0, 1)
    bound.shift.copy_(rows.mean(dim=0))
    bound.spread.copy_(rows.std(dim=0, correction=0).clamp(min=1e-2))
    return bound


def _scale(bound: ErrorBound, learned: Followed, judged: Followed) -> None:
    """Give a bound its usual errors, from training dreams, and its scores, from others."""
    counts = dict(zip(bound.config.kinds, bound.config.counts, strict=True))
    for number, kind in enumerate(counts):
        known = learned.errors[[own == kind for own in learned.kinds]]
        known = known if len(known) else learned.errors
        usual = torch.nanquantile(known, _QUANTILE, dim=0).nan_to_num(0.0)
        bound.usual[number] = usual.cummax(dim=0).values + bound.least  # where few last so long: what was before
        widths = [_width(*_scores(bound, learned, number, share)) for share in _SHARES]  # what scales is not asked
        best = _SHARES[widths.index(min(widths))]
        first = sum(bound.config.counts[:number])
        bound.usual_scores[first : first + counts[kind]] = _scores(bound, judged, number, 1.0)[0]
        bound.scores[first : first + counts[kind]] = _scores(bound, judged, number, best)[0]


def _width(scores: Tensor, estimate: float) -> float:
    """Of a bound with such scores, sorted, and such a mean estimate; infinite without any."""
    place = min(len(scores), math.ceil((len(scores) + 1) * LEVEL)) - 1
    return float(scores[place]) * estimate if len(scores) else math.inf


def _scores(bound: ErrorBound, judged: Followed, number: int, share: float) -> tuple[Tensor, float]:
    """Of a kind's dreams, sorted, with such a share of the usual error, which stays so; and the mean estimate."""
    bound.shares[number] = share
    rows = [own == bound.config.kinds[number] for own in judged.kinds]
    errors = judged.errors[rows]
    estimates = bound.along(judged.seen[rows], judged.actions[rows], number)
    ratios = (errors / estimates).nan_to_num(0.0).flatten(1).amax(dim=1)
    return ratios.sort().values, float(estimates[errors.isfinite()].mean())


@ours
def follow_dreams(dynamics: nn.Module, perception: Perception, episodes: EncodedEpisodes) -> Followed:
    """Dream episodes from their first frames, and compare; at most 1600 of them, evenly spread.

    Episodes that have rested are dreamed twice, from their rest and from their first K frames: how well a beginning
    tells what moves differs, and users begin with either.
    """
    rows = torch.linspace(0, len(episodes) - 1, min(_EPISODES, len(episodes))).long().tolist()
    chosen = episodes.select(rows) if len(rows) < len(episodes) else episodes
    length = int(dynamics.context_length)  # type: ignore[arg-type]
    steps = min(_STEPS, int(chosen.lengths.max()) - length)
    together = torch.arange(len(chosen)).split(_AT_ONCE)
    begun = [chosen, chosen.unrested()] if chosen.rest else [chosen]
    parts = [_follow(dynamics, perception, each, part.tolist(), steps) for each in begun for part in together]
    seen, actions, errors = (torch.cat(column) for column in zip(*parts, strict=True))
    return Followed(seen, actions, errors, chosen.kinds * len(begun))


def _follow(
    dynamics: nn.Module, perception: Perception, episodes: EncodedEpisodes, rows: Sequence[int], steps: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Seen, actions and errors of some episodes, as of `Followed`, on the processor."""
    part, device = episodes.select(list(rows)), perception.device
    length = int(dynamics.context_length)  # type: ignore[arg-type]
    context = part.latents[:, :length].to(device).float()
    scaled = scaled_actions(perception, part)
    past, ahead = scaled[:, : length - 1], scaled[:, length - 1 :][:, :steps]
    heads = perception.heads if unit_of(perception, part) == "std" else None
    memory = None if heads is None else heads.remember(context, past)
    seen = [read_of(perception.locate(context[:, -1])) if memory is None else heads.observe(memory)]  # type: ignore[union-attr]
    errors = []
    for step, latent in enumerate(dreamed(dynamics, perception, context, past, ahead)):
        if heads is not None and memory is not None:
            memory = heads.follow(memory, latent, ahead[:, step])
            seen.append(heads.observe(memory))
            errors.append((seen[-1] - heads.normalised(part.observed[:, length + step].to(device))).abs())
        else:
            located = perception.locate(latent)
            seen.append(read_of(located))
            errors.append((located.positions[:, :1] - part.positions[:, length + step, :1].to(device)).norm(dim=-1))
    recorded = (part.lengths - length).unsqueeze(1) > torch.arange(steps)
    off = torch.stack(errors, dim=1).cpu().masked_fill(~recorded.unsqueeze(2), torch.nan)
    return torch.stack(seen, dim=1).cpu(), ahead.cpu(), off
