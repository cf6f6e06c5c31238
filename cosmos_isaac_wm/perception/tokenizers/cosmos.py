"""How are NVIDIA's Cosmos tokenizers used? From TorchScript (`encoder.jit`, `decoder.jit`), as a `Tokenizer`.

Continuous image tokenizers (CI8x8, CI16x16) take (B, 3, H, W), causal video ones (CV4x8x8, CV8x8x8, ...) take
(B, 3, T, H, W); both want values in [-1, 1]. Video tokenizers are used one frame at a time (T = 1), where they behave
like image tokenizers; T must be 1 + n * temporal compression, and NVIDIA's code gives wrong answers silently otherwise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...storage.paths import user_path

_PROBE = 64  # pixels along the edge of the picture that files are tried with


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
        self._paths = (user_path(encoder), user_path(decoder))
        self.encoder, self.decoder = (self._load(path) for path in self._paths)
        self._encoder_dtype, self._decoder_dtype = map(_dtype, (self.encoder, self.decoder))
        self.channels, self.compression = self._probed()

    @staticmethod
    def _load(path: Path) -> Any:
        if not path.is_file():
            raise ValueError(f"no TorchScript tokenizer at {path}; expected NVIDIA's encoder.jit or decoder.jit")
        try:
            return torch.jit.load(str(path), map_location="cpu").eval()
        except RuntimeError as error:
            raise ValueError(f"{path} is not a TorchScript module or is truncated: {error}") from error

    def _probed(self) -> tuple[int, int]:
        """Channels and compression, from a grey picture's way through both files.

        Raises:
            ValueError: If they do not take each other's output, or the latents are codes of a discrete tokenizer.
        """
        encoder, decoder = self._paths
        grey = torch.zeros(1, 3, _PROBE, _PROBE)
        with _refusing(
            f"{encoder} does not encode images of shape {tuple(grey.shape)}",
            f"Is it {'an image' if self.video else 'a video'} tokenizer? Then set video={not self.video}.",
        ):
            latent = _first(self.encoder(self._prepared(grey)))
        if not latent.is_floating_point():
            raise ValueError(
                f"{encoder} is a discrete tokenizer (DI, DV): it gives indices of codes, and dreams need continuous "
                "latents; use a continuous one (CI8x8, CI16x16, CV4x8x8, ...)"
            )
        channels, size = int(latent.shape[1]), int(latent.shape[-1])
        with _refusing(
            f"{decoder} does not decode latents of shape (1, {channels}, {size}, {size}), which {encoder} gives",
            "Are they of one tokenizer?",
        ):
            decoded = self.decode(latent.squeeze(2) if self.video else latent)
        if decoded.shape != grey.shape or _PROBE % size:
            raise ValueError(
                f"{decoder} makes pictures of shape {tuple(decoded.shape)} of what {encoder} makes of "
                f"{tuple(grey.shape)}: they are not of one tokenizer"
            )
        return channels, _PROBE // size

    def _prepared(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) as the encoder wants them."""
        images = images.to(self._encoder_dtype)
        return images.unsqueeze(2) if self.video else images

    def encode(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1] to float32 latents (B, C, h, w), each picture on its own."""
        latents = _first(self.encoder(self._prepared(images))).float()
        return latents.squeeze(2) if self.video else latents

    def encode_video(self, clips: Tensor) -> Tensor:
        """Clips (B, 3, T, H, W) in [-1, 1] to float32 latents (B, C, 1 + (T - 1) / temporal_compression, h, w).

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
        return _first(self.encoder(clips.to(self._encoder_dtype))).float()

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, C, h, w) to float32 images (B, 3, H, W) in [-1, 1]."""
        latents = latents.to(self._decoder_dtype)
        images = _first(self.decoder(latents.unsqueeze(2) if self.video else latents)).float()
        return (images.squeeze(2) if self.video else images).clamp(-1.0, 1.0)

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


def _dtype(module: Any) -> torch.dtype:
    """The type that a file's weights have, which it wants to be fed with: NVIDIA's are bfloat16."""
    kinds = {tensor.dtype for tensor in (*module.parameters(), *module.buffers()) if tensor.is_floating_point()}
    return torch.bfloat16 if torch.bfloat16 in kinds else torch.float16 if torch.float16 in kinds else torch.float32


@contextmanager
def _refusing(what: str, advice: str) -> Iterator[None]:
    """Try a file, without gradients; TorchScript's error, less its traceback, becomes a line.

    Raises:
        ValueError: If it fails.
    """
    try:
        with torch.no_grad():
            yield
    except Exception as error:
        raise ValueError(f"{what}: {str(error).strip().splitlines()[-1]}. {advice}") from error
