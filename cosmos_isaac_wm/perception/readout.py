"""Where are things in a latent, and how are they turned? One network reads real and dreamed latents alike.

Every cell votes for a position and a heading and says how sure it is; the answer is the weighted mean vote. Trained on
latents of real frames against the simulator's poses, with noise, so that dreamed latents are read as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PRESENT = 0.5  # probability above which a marker counts as seen


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
        rows, columns = (
            torch.linspace(-1, 1, size // patch, dtype=torch.float32, device=latent.device)
            for size in latent.shape[-2:]
        )
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
