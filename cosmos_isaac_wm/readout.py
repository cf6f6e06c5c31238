"""Where things are and how they are turned, read from a latent: one network for real and dreamed latents alike.

Every cell votes for a position and a heading and says how sure it is; the answer is the weighted mean vote. Trained on
latents of real frames against the simulator's poses, with noise, so that dreamed latents are read as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm


@dataclass(frozen=True)
class ReadoutConfig:
    """Shape of a `Readout`.

    Attributes:
        channels: Latent channels, C.
        markers: Number of tracked objects, N.
        patch: Latent cells are gathered in patch x patch blocks first.
        width: Hidden channels.
        headings: Whether headings are read as well.
    """

    channels: int = 16
    markers: int = 2
    patch: int = 2
    width: int = 64
    headings: bool = False


@dataclass
class Located:
    """Positions of the tracked objects, and how they are turned.

    Attributes:
        positions: (x, y) in metres, (B, N, 2).
        presence: Probability in [0, 1] that the object is in the scene, (B, N).
        headings: Cosine and sine of the marker's symmetry x its angle, (B, N, 2), shorter than 1 the less sure it is;
            meaningless for a marker without a heading; None if none was learned.
    """

    positions: Tensor
    presence: Tensor
    headings: Tensor | None = None


class Readout(nn.Module):
    """Positions in metres from a normalised latent.

    Args:
        config: Its shape.
        low: Least (x, y) of the workspace in metres.
        high: Greatest (x, y) of the workspace in metres.
    """

    def __init__(self, config: ReadoutConfig, low: tuple[float, float], high: tuple[float, float]):
        super().__init__()
        self.config = config
        self._votes = 6 if config.headings else 4
        cell = config.channels * config.patch**2 + 2
        self.features = nn.Sequential(
            nn.Conv2d(cell, config.width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(config.width, config.width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(config.width, self._votes * config.markers, 1),
        )
        self.register_buffer("centre", (torch.tensor(low) + torch.tensor(high)) / 2)
        self.register_buffer("scale", (torch.tensor(high) - torch.tensor(low)) / 2)

    def forward(self, latent: Tensor) -> Located:
        """Latent (B, C, h, w), normalised, to what is in it."""
        patch = self.config.patch
        rows, columns = (torch.linspace(-1, 1, size // patch, device=latent.device) for size in latent.shape[-2:])
        grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij")).unsqueeze(0)
        votes = self.features[1:](self._gather(latent, grid)).float()
        # (B, N, 4 or 6, cells): x, y, weight, presence, cosine, sine
        votes = votes.unflatten(1, (self.config.markers, self._votes)).flatten(3)
        weight = votes[:, :, 2].softmax(dim=-1)
        offset = torch.stack([grid[:, 1], -grid[:, 0]], dim=1).flatten(2).unsqueeze(1)  # a cell's own place
        place = ((votes[:, :, :2] + offset) * weight.unsqueeze(2)).sum(-1)
        presence = torch.sigmoid((votes[:, :, 3] * weight).sum(-1))
        headings = (votes[:, :, 4:] * weight.unsqueeze(2)).sum(-1) if self.config.headings else None
        return Located(place * self.scale + self.centre, presence, headings)

    def _gather(self, latent: Tensor, grid: Tensor) -> Tensor:
        """The first convolution of the latent's patches and their coordinates (1, 2, h / patch, w / patch).

        As a strided one of the latent itself, which need not be rearranged for it.
        """
        first: nn.Conv2d = self.features[0]  # type: ignore[assignment]
        patch = self.config.patch
        of_patches, of_grid = first.weight[:, :-2], first.weight[:, -2:]
        kernel = of_patches.unflatten(1, (-1, patch, patch)).permute(0, 1, 4, 2, 5, 3).flatten(4, 5).flatten(2, 3)
        place = F.conv2d(grid.to(first.weight.dtype), of_grid, first.bias, padding=1)
        return F.conv2d(latent.to(first.weight.dtype), kernel, stride=patch, padding=patch) + place


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
    readout.train().requires_grad_(True)
    optimizer = torch.optim.AdamW(readout.parameters(), lr=config.lr, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, total_steps=config.updates, pct_start=0.1)
    losses = []
    for _ in tqdm(range(config.updates), desc="fit readout", unit="update"):
        picks = torch.randint(len(latents), (config.batch_size,), generator=generator)
        batch = latents[picks].float()
        batch = (batch + config.latent_noise * torch.randn(batch.shape, generator=generator)).to(device)
        loss = readout_loss(readout(batch), positions[picks].to(device), headings[picks].to(device))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(readout.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
    readout.eval().requires_grad_(False)
    return sum(losses[-max(1, config.updates // 10) :]) / max(1, config.updates // 10)
