"""What do NVIDIA's tokenizers look like? TorchScript files with the same input and output, small and untrained."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn


class Encoder(nn.Module):
    """Pictures to (latent, something more), as CI8x8; with a time axis, as CV8x8x8."""

    def __init__(self, video: bool = False):
        super().__init__()
        self.conv: nn.Module = nn.Conv3d(3, 16, (1, 8, 8), (1, 8, 8)) if video else nn.Conv2d(3, 16, 8, 8)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        latent = self.conv(x)
        return latent, latent.mean()


class Decoder(nn.Module):
    def __init__(self, video: bool = False):
        super().__init__()
        kind = nn.ConvTranspose3d if video else nn.ConvTranspose2d
        self.conv = kind(16, 3, (1, 8, 8) if video else 8, (1, 8, 8) if video else 8)

    def forward(self, z: Tensor) -> Tensor:
        return self.conv(z)


def cosmos_files(folder: Path, video: bool = False) -> tuple[str, str]:
    """Paths of encoder.jit and decoder.jit, the same for every call."""
    torch.manual_seed(0)
    folder.mkdir(exist_ok=True)
    paths = str(folder / "encoder.jit"), str(folder / "decoder.jit")
    for module, path in zip((Encoder(video), Decoder(video)), paths, strict=True):
        torch.jit.save(torch.jit.script(module), path)
    return paths
