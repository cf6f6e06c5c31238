"""What is the default tokenizer? A small convolutional autoencoder, 16 channels at 8x compression.

It works on 4x4 patches, so nearly all arithmetic happens at a quarter of the resolution, and it has no normalisation
layers, so a latent cell depends on its neighbourhood only and any image size (a multiple of 8) works unchanged.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from ...storage.weights import fingerprint


@dataclass(frozen=True)
class TinyTokenizerConfig:
    """Shape of a `TinyTokenizer`.

    Attributes:
        channels: Latent channels, C.
        patch: Edge of the pixel patches that enter and leave the network.
        widths: Feature channels at 1/patch and at 1/(2 patch) of the resolution.
        blocks: Residual blocks at each resolution, in the encoder and again in the decoder.
    """

    channels: int = 16
    patch: int = 4
    widths: tuple[int, int] = (64, 128)
    blocks: int = 2


class _Residual(nn.Module):
    """x + conv(silu(conv(silu(x)))), starting as the identity so that no normalisation is needed."""

    def __init__(self, width: int):
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.silu(self.first(F.silu(x))))


class TinyTokenizer(nn.Module):
    """Convolutional autoencoder behind the `Tokenizer` contract.

    Args:
        config: Its shape.
    """

    def __init__(self, config: TinyTokenizerConfig = TinyTokenizerConfig()):
        super().__init__()
        self.config = config
        self.channels = config.channels
        self.compression = 2 * config.patch
        fine, coarse = config.widths
        pixels = 3 * config.patch**2
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(config.patch),
            nn.Conv2d(pixels, fine, 3, padding=1),
            *(_Residual(fine) for _ in range(config.blocks)),
            nn.Conv2d(fine, coarse, 4, stride=2, padding=1),
            *(_Residual(coarse) for _ in range(config.blocks)),
            nn.SiLU(),
            nn.Conv2d(coarse, config.channels, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(config.channels, coarse, 3, padding=1),
            *(_Residual(coarse) for _ in range(config.blocks)),
            nn.Conv2d(coarse, 4 * fine, 1),
            nn.PixelShuffle(2),
            *(_Residual(fine) for _ in range(config.blocks)),
            nn.SiLU(),
            nn.Conv2d(fine, pixels, 3, padding=1),
            nn.PixelShuffle(config.patch),
        )

    def encode(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1] to latents (B, C, H / 8, W / 8).

        Raises:
            ValueError: If height or width is not a multiple of the compression.
        """
        if images.shape[-2] % self.compression or images.shape[-1] % self.compression:
            raise ValueError(
                f"images of {tuple(images.shape[-2:])} pixels do not divide into {self.compression}x"
                f"{self.compression} cells; resize or pad them to a multiple of {self.compression}"
            )
        return self.encoder(images)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, C, h, w) to images (B, 3, 8 h, 8 w) in [-1, 1]."""
        return self.decoder(latents).clamp(-1.0, 1.0)

    def fingerprint(self) -> str:
        """Hash of the configuration and every weight."""
        return fingerprint(self, repr(asdict(self.config)))

    def encoder_fingerprint(self) -> str:
        """Hash of the configuration and the encoder's weights."""
        return fingerprint(self.encoder, repr(asdict(self.config)))
