"""What is between pictures and what the dynamics sees? Tokenizer, latent normalisation, readout or heads.

One folder on disk: `perception.yaml`, `perception.safetensors`. A world model bundle contains one, and
`cosmos-wm fit-tokenizer` writes one that has no dynamics yet.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..borders import array_of, how_to_convert, ours, tensor_of
from ..scene import Scene
from ..storage.atomic import write
from ..storage.bundle import BundleError, part, seal
from ..storage.paths import user_path
from ..storage.structured import as_yaml, read
from ..storage.weights import load_weights, save_tensors
from .heads import Heads
from .parts import Described, parts
from .pictures import padded, padded_size, to_frames, to_images
from .readout import Located, Readout
from .tokenizers import CosmosTokenizer, TinyTokenizer

_FILES = "perception.safetensors", "perception.yaml"  # the second is written last


class Perception(nn.Module):
    """Frames to normalised latents, back to frames, and to positions.

    Args:
        scene: What is looked at.
        tokenizer: The frame tokenizer.
        readout: Positions from latents, or None where the data has no positions.
        mean: Mean of the raw latents per channel, (C,).
        std: Standard deviation of the raw latents per channel, (C,).
        heads: What latents mean to the foreign environment that the scene is, or None.
        adapted_from: What `latents_fingerprint` was before the encoder learned on, or None if it never did: a dynamics
            of those latents is a good start for these.
    """

    mean: Tensor
    std: Tensor
    action_low: Tensor
    action_high: Tensor
    _action_middle: Tensor
    _action_scale: Tensor

    def __init__(
        self,
        scene: Scene,
        tokenizer: TinyTokenizer | CosmosTokenizer,
        readout: Readout | None = None,
        mean: Tensor | None = None,
        std: Tensor | None = None,
        adapted_from: str | None = None,
        heads: Heads | None = None,
    ):
        super().__init__()
        self.scene, self.tokenizer, self.readout, self.heads = scene, tokenizer, readout, heads
        self.adapted_from = adapted_from
        channels = tokenizer.channels
        self.register_buffer("mean", torch.zeros(channels) if mean is None else mean)
        self.register_buffer("std", torch.ones(channels) if std is None else std)

        self.register_buffer("action_low", torch.tensor(scene.action_low), persistent=False)
        self.register_buffer("action_high", torch.tensor(scene.action_high), persistent=False)
        half = (self.action_high - self.action_low) / 2
        self.register_buffer("_action_middle", self.action_low + half, persistent=False)
        self.register_buffer("_action_scale", torch.where(half > 0, 1 / half, 0.0), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.mean.device

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of the scene's frames."""
        height, width = padded_size(self.scene.image_size, self.tokenizer.compression)
        return self.tokenizer.channels, height // self.tokenizer.compression, width // self.tokenizer.compression

    @ours
    def encode(self, frames: NDArray[np.uint8] | Tensor) -> Tensor:
        """uint8 frames (B, H, W, 3) to normalised float32 latents (B, C, h, w).

        Frames of the scene's size are padded where the tokenizer cannot divide it (`padded_size`), at the bottom and on
        the right.

        Raises:
            ValueError: If the frames have another type, or another size that the tokenizer cannot divide.
        """
        if not isinstance(frames, Tensor):
            frames = torch.from_numpy(array_of(frames, "frames"))
        if frames.dtype != torch.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or not frames.numel():
            raise ValueError(
                f"expected uint8 RGB frames of shape (B, H, W, 3), got {str(frames.dtype).removeprefix('torch.')} "
                f"{tuple(frames.shape)}{how_to_convert(frames.dtype, tuple(frames.shape))}"
            )
        images = to_images(frames.to(self.device))
        if tuple(frames.shape[1:3]) == self.scene.image_size:
            images = padded(images, self.tokenizer.compression)
        images = images.contiguous(memory_format=torch.channels_last)
        return (self.tokenizer.encode(images).float() - self._shaped(self.mean)) / self._shaped(self.std)

    @ours
    def decode(self, latents: Tensor) -> Tensor:
        """Normalised latents (B, C, h, w) to uint8 frames (B, H, W, 3), without what was padded.

        Raises:
            ValueError: If the latents have another shape.
        """
        latents = self._checked(latents)
        raw = latents.float() * self._shaped(self.std) + self._shaped(self.mean)
        images = self.tokenizer.decode(raw.contiguous(memory_format=torch.channels_last)).float()
        if latents.shape[1:] == self.latent_shape:
            height, width = self.scene.image_size
            images = images[..., :height, :width]
        return to_frames(images)

    def locate(self, latents: Tensor) -> Located:
        """Positions (B, N, 2) in metres and presence (B, N) from normalised latents (B, C, h, w).

        Raises:
            ValueError: If there is no readout, because the training data had no positions, or the latents have
                another shape.
        """
        if self.readout is None:
            raise ValueError(
                f"the bundle of scene {self.scene.name!r} has no readout: its training data had no positions. "
                'Use obs_type="latent" or "rgb" and a reward function of latents or frames.'
            )
        located: Located = self.readout(self._checked(latents))
        return located

    def _checked(self, latents: Tensor) -> Tensor:
        """Latents (B, C, h, w) as a tensor where the perception is, whose history stays.

        Raises:
            ValueError: If they have another shape.
        """
        if not isinstance(latents, Tensor):
            latents = tensor_of(latents, "latents", torch.float32, self.device)
        if latents.ndim != 4 or latents.shape[1] != self.tokenizer.channels or latents.is_complex():
            raise ValueError(
                f"expected latents of shape (B, {self.tokenizer.channels}, h, w), got {tuple(latents.shape)}"
            )
        return latents

    def scale_actions(self, actions: Tensor) -> Tensor:
        """Actions (..., A) in the scene's units, clipped to its bounds and scaled to [-1, 1] as the dynamics wants.

        A dimension whose bounds are equal tells nothing, and is 0.
        """
        clipped = torch.clamp(actions.to(self.action_low), self.action_low, self.action_high)
        return (clipped - self._action_middle) * self._action_scale

    @staticmethod
    def _shaped(statistics: Tensor) -> Tensor:
        return statistics[None, :, None, None]

    def fingerprint(self) -> str:
        """A hash of tokenizer and latent statistics."""
        return self._with_statistics(self.tokenizer.fingerprint())

    def latents_fingerprint(self) -> str:
        """A hash of encoder (or NVIDIA's tokenizer) and latent statistics: the same one makes the same latents."""
        tokenizer = self.tokenizer
        if isinstance(tokenizer, TinyTokenizer):
            return self._with_statistics(tokenizer.encoder_fingerprint())
        return self._with_statistics(tokenizer.fingerprint())

    def _with_statistics(self, tokenizer: str) -> str:
        digest = hashlib.sha256(tokenizer.encode())
        for statistic in (self.mean, self.std):
            digest.update(statistic.cpu().numpy().tobytes())
        return digest.hexdigest()[:16]

    def config(self) -> dict[str, Any]:
        """What `load` needs besides the weights."""
        tokenizer: dict[str, Any] = {"fingerprint": self.tokenizer.fingerprint()}
        if isinstance(self.tokenizer, TinyTokenizer):
            tokenizer |= {"type": "tiny", "config": _plain(dataclasses.asdict(self.tokenizer.config))}
        else:
            tokenizer |= {"type": "cosmos", "config": self.tokenizer.config()}
        readout = None if self.readout is None else dataclasses.asdict(self.readout.config)
        more: dict[str, Any] = {} if self.adapted_from is None else {"adapted_from": self.adapted_from}
        more |= {} if self.heads is None else {"heads": dataclasses.asdict(self.heads.config)}
        return {"scene": self.scene.to_dict(), "tokenizer": tokenizer, "readout": readout, **more}

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `perception.yaml` and `perception.safetensors` into a folder, which may hold an older perception."""
        folder = user_path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _FILES[-1]).unlink(missing_ok=True)  # what lacks it is not finished
        # NVIDIA's weights stay in their own files; everything else is ours.
        state = {
            name: tensor
            for name, tensor in self.state_dict().items()
            if isinstance(self.tokenizer, TinyTokenizer) or not name.startswith("tokenizer.")
        }
        save_tensors(folder / _FILES[0], state)
        text = as_yaml(self.config())
        seal(folder, _FILES[:1], {_FILES[1]: text})
        write(folder / _FILES[1], text)

    @classmethod
    @ours
    def load(cls, folder: str | os.PathLike[str], device: str | torch.device = "cpu") -> Perception:
        """Read what `save` wrote.

        Raises:
            BundleError: If a file is missing or damaged, or the tokenizer's fingerprint differs from the one that the
                latents were made with.
        """
        folder = user_path(folder)
        path = folder / "perception.yaml"
        described = read(path, Described, BundleError, part(folder, "perception.yaml"))
        try:
            scene, tokenizer, readout, heads = parts(described, folder)
            perception = cls(scene, tokenizer, readout, adapted_from=described.adapted_from, heads=heads).float()
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"{path} describes no perception: {error}") from error
        elsewhere = "tokenizer." if described.tokenizer.type == "cosmos" else None
        load_weights(perception, folder, "perception.safetensors", elsewhere)
        if tokenizer.fingerprint() != described.tokenizer.fingerprint:
            raise BundleError(
                f"{folder}: the tokenizer's fingerprint is {tokenizer.fingerprint()}, but the bundle's latents were "
                f"made with {described.tokenizer.fingerprint}. Use the tokenizer it was fitted with, or fit the bundle "
                "again."
            )
        return perception.eval().requires_grad_(False).to(device)


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
