"""Where can dreams start? At real contexts of training episodes, which a bundle stores."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from .storage.bundle import BundleError


@dataclass
class Contexts:
    """Real starts for dreams: n windows of K frames.

    Attributes:
        latents: Normalised latents, oldest first, float16 (n, K, C, h, w).
        positions: True positions in metres of those frames, float32 (n, K, N, 2); NaN where unknown or absent.
        states: Simulator state of the last frame, float64 (n, S), padded with NaN; S may be 0.
        episodes: Episode number in the training dataset, (n,).
        starts: Index in that episode of the window's first frame, (n,).
        kinds: Kind of the episode, n names.
    """

    latents: Tensor
    positions: Tensor
    states: Tensor
    episodes: Tensor
    starts: Tensor
    kinds: list[str]

    def __len__(self) -> int:
        return len(self.latents)

    def save(self, path: Path) -> None:
        """Write one safetensors file."""
        tensors = {f.name: getattr(self, f.name).contiguous() for f in dataclasses.fields(self) if f.name != "kinds"}
        save_file(tensors, path, metadata={"kinds": json.dumps(self.kinds)})

    @classmethod
    def load(cls, path: Path) -> Contexts:
        """Read what `save` wrote.

        Raises:
            BundleError: If the file is missing or truncated.
        """
        if not path.is_file():
            raise BundleError(f"no {path.name} in {path.parent}; the bundle is incomplete, copy or fit it again")
        try:
            with safe_open(path, framework="pt") as file:
                kinds = json.loads(file.metadata()["kinds"])
            return cls(**load_file(path), kinds=kinds)
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise BundleError(f"{path} is truncated or damaged ({error}); copy or fit the bundle again") from error
