"""What is wrong with a dreamed step? Its latent against the true one, and what the readout sees in it."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from ..data.windows import EncodedEpisodes
from ..perception.heads import Heads
from ..perception.readout import Located, Readout
from ..protocols import Prediction
from .dreams import Targets
from .recipe import FitConfig

Term = tuple[float, Tensor]  # a weight, and what it weighs for each dream, (B,)

_STRAYED = 2.0  # standard deviations of an observation's error beyond which there is nothing to learn
_FARTHEST = 0.1  # metres of position error beyond which contact has gone another way and there is nothing to learn
_TURNED_AWAY = math.cos(math.radians(80))  # of symmetry x angle: a cube is given up when it is off by 20 degrees


def rollout_loss(predicted: Tensor, target: Tensor, previous: Tensor, background: Tensor, config: FitConfig) -> Tensor:
    """Motion-weighted L1 of one predicted step, (B,).

    Args:
        predicted: (B, C, h, w).
        target: The true next latent, (B, C, h, w).
        previous: The true latent one frame earlier, (B, C, h, w): the motion is measured against it.
        background: The median latent, (1, C, h, w).
        config: Weights and threshold.
    """
    weight = torch.where((target - previous).abs() > config.motion_threshold, config.motion_weight, 1.0)
    if config.foreground_weight:
        occupied = ((target - background).abs().amax(dim=1, keepdim=True) > 1.0).to(weight.dtype)
        weight = weight + config.foreground_weight * occupied
    return (weight * (predicted - target).abs()).mean(dim=(1, 2, 3))


def gradient_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean L1 distance between the spatial gradients of latents (B, C, h, w), (B,)."""
    off = predicted - target
    return off.diff(dim=2).abs().mean(dim=(1, 2, 3)) + off.diff(dim=3).abs().mean(dim=(1, 2, 3))


def latent_terms(
    prediction: Prediction, target: Tensor, previous: Tensor, background: Tensor, config: FitConfig
) -> list[Term]:
    """The terms of one predicted step that need latents only; arguments as of `rollout_loss`."""
    predicted = prediction.latent.float()
    terms = [(1.0, rollout_loss(predicted, target, previous, background, config))]
    if config.gradient_weight:
        terms.append((config.gradient_weight, gradient_loss(predicted, target)))
    if prediction.kl is not None:
        terms.append((config.kl_weight, (prediction.kl - config.free_bits).clamp(min=0).sum(dim=1)))
    return terms


class Judge(Protocol):
    """Judges what dreamed latents mean."""

    def see(self, latents: Tensor, actions: Tensor) -> None:
        """Look at the latents (B, C, h, w) of the next step, and at the scaled actions (B, A) that led there."""

    def terms(self, step: int) -> list[Term]:
        """What is wrong with what was seen last, after step `step` = 1, 2, ..."""

    def near(self, step: int) -> Tensor:
        """Which dreams have not left the truth after step `step`, (B,)."""


class PoseJudge:
    """Judges the poses that the readout sees in dreamed latents, as a `Judge`.

    What is off already when an update begins is not this update's to mend, and cannot be seen from the context: errors
    are counted from there.

    Args:
        readout: Reads them.
        context: Where the dreams begin, (B, K, C, h, w).
        truth: What is true from there on.
        config: The recipe.
    """

    def __init__(self, readout: Readout, context: Tensor, truth: Targets, config: FitConfig):
        self._readout, self._truth, self._config = readout, truth, config
        with torch.no_grad():
            self._begun: Located = readout(context[:, -1])
        self._located = self._begun

    def see(self, latents: Tensor, actions: Tensor) -> None:
        """See `Judge`."""
        self._located = self._readout(latents)

    def terms(self, step: int) -> list[Term]:
        """See `Judge`."""
        truth, config, located = self._truth, self._config, self._located
        moved = truth.positions[:, step] - truth.positions[:, 0]  # (B, N, 2) metres, NaN where absent
        strayed = (located.positions - self._begun.positions - moved).nan_to_num().norm(dim=-1).clamp(max=_FARTHEST)
        terms = [(config.position_weight * 10, strayed.mean(dim=1))]
        if config.heading_weight and located.headings is not None and self._begun.headings is not None:
            turned = _turned(self._begun.headings, truth.headings[:, 0], truth.headings[:, step])
            missed = (located.headings - turned).nan_to_num().norm(dim=-1)
            terms.append((config.heading_weight, missed.mean(dim=1)))
        return terms

    def near(self, step: int) -> Tensor:
        """See `Judge`."""
        truth, config, located = self._truth, self._config, self._located
        error = (located.positions.detach() - truth.positions[:, step]).norm(dim=-1).nan_to_num()
        near = error.amax(dim=1) < config.divergence
        if config.heading_weight and located.headings is not None:
            agreement = F.cosine_similarity(located.headings.detach(), truth.headings[:, step], dim=-1)
            near = near & (agreement.nan_to_num(nan=1.0).amin(dim=1) > _TURNED_AWAY)
        return near


class ObservationJudge:
    """Judges what the heads read in dreamed latents: a foreign environment's observation, as a `Judge`.

    Args:
        heads: Read it.
        context: Where the dreams begin, (B, K, C, h, w).
        past: The scaled actions that led there, (B, H, A).
        truth: What is true from there on.
        config: The recipe.
    """

    def __init__(self, heads: Heads, context: Tensor, past: Tensor, truth: Targets, config: FitConfig):
        self._heads, self._config = heads, config
        self._truth = heads.normalised(truth.observed)
        with torch.no_grad():
            self._memory = heads.remember(context, past)
        self._read = self._truth[:, 0]

    def see(self, latents: Tensor, actions: Tensor) -> None:
        """See `Judge`."""
        self._memory = self._heads.follow(self._memory, latents, actions)
        self._read = self._heads.read(self._memory).float()

    def terms(self, step: int) -> list[Term]:
        """See `Judge`."""
        missed = (self._read - self._truth[:, step]).abs().clamp(max=_STRAYED)
        return [(self._config.observation_weight, missed.mean(dim=1))]

    def near(self, step: int) -> Tensor:
        """See `Judge`."""
        off = (self._read.detach() - self._truth[:, step]).square().mean(dim=1).sqrt()
        return off < self._config.observation_divergence


def _turned(begun: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """Where headings (B, N, 2) end up that turn as others do from `before` to `after`; unit vectors, NaN if unknown."""
    start, first, last = (torch.view_as_complex(F.normalize(each.float(), dim=-1)) for each in (begun, before, after))
    return torch.view_as_real(start * last * first.conj())


def median_latent(episodes: EncodedEpisodes) -> Tensor:
    """The background: the median latent over the training frames, (1, C, h, w)."""
    flat = episodes.latents.flatten(0, 1)
    return flat[:: max(1, len(flat) // 500)].float().median(dim=0, keepdim=True).values
