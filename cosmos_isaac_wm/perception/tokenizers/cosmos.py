"""How are NVIDIA's Cosmos tokenizers used? From TorchScript (`encoder.jit`, `decoder.jit`), as a `Tokenizer`.

Continuous image tokenizers (CI8x8, CI16x16) take (B, 3, H, W), causal video ones (CV4x8x8, CV8x8x8, ...) take
(B, 3, T, H, W); both want values in [-1, 1]. Video tokenizers are used one frame at a time (T = 1), where they behave
like image tokenizers; T must be 1 + n * temporal compression, and NVIDIA's code gives wrong answers silently otherwise.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


class CosmosTokenizer(nn.Module):
    """Adapter to a pair of TorchScript modules.

    Args:
        encoder: Path of `encoder.jit`; its output is the latent, or a tuple that starts with it.
        decoder: Path of `decoder.jit`.
        video: Whether the modules take a time axis (the CV variants).
        temporal_compression: Frames per latent after the first, for video tokenizers (4 or 8).

    Raises:
        ValueError: If a file is missing or is not TorchScript, or the latents do not fit the contract.
    """

    def __init__(self, encoder: str, decoder: str, video: bool = False, temporal_compression: int = 8):
        super().__init__()
        self.video, self.temporal_compression = video, temporal_compression
        self._paths = (Path(encoder), Path(decoder))
        self.encoder, self.decoder = (self._load(path) for path in self._paths)
        try:
            probe = self.encode(torch.zeros(1, 3, 64, 64))
        except Exception as error:
            raise ValueError(
                f"{encoder} does not encode images of shape (1, 3, 64, 64): {error}. "
                f"Is it {'an image' if video else 'a video'} tokenizer? Then set video={not video}."
            ) from error
        self.channels = int(probe.shape[1])
        self.compression = 64 // int(probe.shape[-1])

    @staticmethod
    def _load(path: Path) -> Any:
        if not path.is_file():
            raise ValueError(f"no TorchScript tokenizer at {path}; expected NVIDIA's encoder.jit or decoder.jit")
        try:
            return torch.jit.load(str(path), map_location="cpu").eval()
        except RuntimeError as error:
            raise ValueError(f"{path} is not a TorchScript module or is truncated: {error}") from error

    def encode(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1] to latents (B, C, h, w), each picture on its own."""
        if not self.video:
            return _first(self.encoder(images))
        return self.encode_video(images.unsqueeze(2)).squeeze(2)

    def encode_video(self, clips: Tensor) -> Tensor:
        """Clips (B, 3, T, H, W) in [-1, 1] to latents (B, C, 1 + (T - 1) / temporal_compression, h, w).

        Raises:
            ValueError: If T is not 1 + n * temporal_compression, or this is an image tokenizer.
        """
        if not self.video:
            raise ValueError("this is an image tokenizer; encode() takes its pictures")
        if clips.ndim != 5 or (clips.shape[2] - 1) % self.temporal_compression:
            raise ValueError(
                f"a causal video tokenizer takes (B, 3, T, H, W) with T = 1 + {self.temporal_compression} n frames, "
                f"got {tuple(clips.shape)}"
            )
        return _first(self.encoder(clips))

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, C, h, w) to images (B, 3, H, W) in [-1, 1]."""
        if self.video:
            return _first(self.decoder(latents.unsqueeze(2))).squeeze(2).clamp(-1.0, 1.0)
        return _first(self.decoder(latents)).clamp(-1.0, 1.0)

    def config(self) -> dict[str, str | bool | int]:
        """The arguments that make this adapter again."""
        encoder, decoder = map(str, self._paths)
        return {
            "encoder": encoder,
            "decoder": decoder,
            "video": self.video,
            "temporal_compression": self.temporal_compression,
        }

    def fingerprint(self) -> str:
        """Hash of both files."""
        digest = hashlib.sha256()
        for path in self._paths:
            digest.update(path.read_bytes())
        return digest.hexdigest()[:16]


def _first(output: Any) -> Tensor:
    """NVIDIA's encoders return a tuple that starts with the latent."""
    return output[0] if isinstance(output, tuple | list) else output
