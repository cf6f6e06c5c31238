"""Does an observation tell its own future? Where it does, heads learn to carry it on, from step to step.

What is slow moves less than a pixel in a frame, and in the dream of a picture it may stand still: an agent that
learned there lets it run away outside. A pendulum's angle and speed, though, say exactly what they will be. So whether
observations tell that is measured on episodes that were not learned from; where they do, those of a dream begin with
what is read in real frames, and do not follow the dreamed picture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..borders import ours, training_mode
from ..data.windows import EncodedEpisodes
from ..perception.heads import Heads
from .heads import HeadsFitConfig, explained
from .optimizer import descend

FORETOLD = 0.99  # of the variance of its change in a step, of every component that changes
_LEAST_CHANGE = 1e-4  # standard deviations in a step: what changes less does not


@ours
def fit_carry(
    heads: Heads,
    train: EncodedEpisodes,
    val: EncodedEpisodes,
    scale_actions: Callable[[Tensor], Tensor],
    config: HeadsFitConfig,
    seed: int,
    device: torch.device,
) -> tuple[Heads, dict[str, float]]:
    """Learn how observations follow from each other.

    Args:
        heads: Trained ones.
        train: Training episodes.
        val: Others, to judge by.
        scale_actions: To [-1, 1], as of `Perception`.
        config: The recipe: as many updates, of batches as large, at the same rate.
        seed: Of weights and batches.
        device: Where to train.

    Returns:
        Heads that carry on, or those that were given where observations do not tell enough, and `carry_r2_min`: how
        much is explained of a held-out change in a step, of the component that is foretold worst.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        carrying = heads.carrying().to(device)
    known, unseen = (_Changes.of(heads, each, scale_actions, device) for each in (train, val))
    changes = known.std > _LEAST_CHANGE
    _train(carrying, known, config, seed)
    r2, _ = explained(carrying.carried(unseen.before, unseen.actions) - unseen.before, unseen.after - unseen.before)
    least = float(r2[changes.cpu()].min()) if changes.any() else 1.0
    enough = least >= FORETOLD
    print(
        f"observations tell {least:.4f} of their next change (R², the worst component): "
        f"{'they are carried on' if enough else 'they are read in every picture'}"
    )
    return (carrying if enough else heads), {"carry_r2_min": least}


@dataclass
class _Changes:
    """Steps of episodes.

    Attributes:
        before: Normalised observations, (n, D).
        actions: Scaled, (n, A).
        after: Observations that they led to, (n, D).
        std: Of the changes, (D,).
    """

    before: Tensor
    actions: Tensor
    after: Tensor
    std: Tensor

    @classmethod
    def of(
        cls, heads: Heads, episodes: EncodedEpisodes, scale_actions: Callable[[Tensor], Tensor], device: torch.device
    ) -> _Changes:
        frames = torch.arange(1, episodes.observed.shape[1])
        there = (frames > episodes.rest) & (frames < episodes.lengths[:, None])
        observed = heads.normalised(episodes.observed.to(device))
        before, after = observed[:, :-1][there], observed[:, 1:][there]
        return cls(before, scale_actions(episodes.actions.to(device))[there], after, (after - before).std(dim=0))


@training_mode()
def _train(heads: Heads, known: _Changes, config: HeadsFitConfig, seed: int) -> None:
    """Train the carry in place; every component counts by how much it changes."""
    assert heads.carry is not None
    generator = torch.Generator().manual_seed(seed)
    scale = known.std.clamp(min=_LEAST_CHANGE)

    def loss() -> Tensor:
        rows = torch.randint(len(known.before), (config.batch_size,), generator=generator)
        foretold = heads.carried(known.before[rows], known.actions[rows])
        return F.smooth_l1_loss(foretold / scale, known.after[rows] / scale, beta=0.1)

    descend(heads.carry, loss, config.updates, config.lr, "fit how observations go on")
