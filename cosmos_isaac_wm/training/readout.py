"""How does a readout learn to see? From latents of real frames with noise, so that dreamed ones are read as well."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..borders import training_mode
from ..perception.readout import Located, Readout
from .optimizer import descend


def readout_loss(located: Located, positions: Tensor, headings: Tensor | None = None) -> Tensor:
    """L1 in decimetres of what is present, plus cross-entropy of presence, plus L1 of the headings.

    Args:
        located: What was read.
        positions: True (x, y) in metres, (B, N, 2), NaN for an absent object.
        headings: True headings as in `Located`, NaN where unknown; None if they are not read.
    """
    present = ~positions.isnan().any(-1)
    error = (located.positions - positions.nan_to_num()).abs().sum(-1) * 10
    presence = F.binary_cross_entropy(located.presence.clamp(1e-6, 1 - 1e-6), present.float())
    loss = (error * present).sum() / present.sum().clamp(min=1) + 0.1 * presence
    if located.headings is not None and headings is not None:
        known = ~headings.isnan().any(-1)
        turned = (located.headings - headings.nan_to_num()).abs().sum(-1)
        loss = loss + 0.2 * (turned * known).sum() / known.sum().clamp(min=1)
    return loss


@dataclass(frozen=True)
class ReadoutFitConfig:
    """How the readout is trained.

    Attributes:
        updates: Optimiser steps.
        batch_size: Latents per step.
        lr: Peak learning rate of AdamW under a one-cycle schedule.
        latent_noise: Noise on the normalised latents, so that imperfect dreams are read as well.
    """

    updates: int = 5000
    batch_size: int = 128
    lr: float = 2e-3
    latent_noise: float = 0.1


@training_mode()
def fit_readout(
    readout: Readout,
    latents: Tensor,
    positions: Tensor,
    headings: Tensor,
    config: ReadoutFitConfig,
    seed: int,
    device: torch.device,
) -> float:
    """Train `readout` in place.

    Args:
        readout: The network.
        latents: Normalised latents of real frames, (n, C, h, w).
        positions: True positions in metres, (n, N, 2), NaN where absent.
        headings: True headings as in `Located`, (n, N, 2), NaN where unknown.
        config: The recipe.
        seed: Seed of batches and noise.
        device: Where to train.

    Returns:
        The mean loss of the last tenth of the updates.
    """
    generator = torch.Generator().manual_seed(seed)
    readout.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def loss() -> Tensor:
        picks = torch.randint(len(latents), (config.batch_size,), generator=generator)
        batch = latents[picks].float()
        batch = (batch + config.latent_noise * torch.randn(batch.shape, generator=generator)).to(device)
        return readout_loss(readout(batch), positions[picks].to(device), headings[picks].to(device))

    return descend(readout, loss, config.updates, config.lr, "fit readout")
