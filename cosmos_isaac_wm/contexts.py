"""Where can dreams start? At real contexts of training episodes, which a bundle stores."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from .storage.bundle import BundleError
from .storage.weights import load_tensors, save_tensors

BEGINNING = "start"  # kind of the contexts that a foreign environment's episodes begin with


@dataclass
class Contexts:
    """Real starts for dreams: n windows of K frames.

    Attributes:
        latents: Normalised latents, oldest first, float16 (n, K, C, h, w).
        positions: True positions in metres of those frames, float32 (n, K, N, 2); NaN where unknown or absent.
        states: Simulator state of the last frame, float64 (n, S), padded with NaN; S may be 0.
        episodes: Episode number in the training dataset, (n,).
        starts: Index in that episode of the window's first frame, (n,); below 0 where it had rested before.
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
        tensors = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "kinds"}
        save_tensors(path, tensors, {"kinds": json.dumps(self.kinds)})

    @classmethod
    def load(cls, folder: Path, name: str = "contexts.safetensors") -> Contexts:
        """Read what `save` wrote into a bundle's folder.

        Raises:
            BundleError: If the file is missing, damaged, or holds something else.
        """
        tensors, metadata = load_tensors(folder, name)
        try:
            kinds = json.loads(metadata["kinds"])
            contexts = cls(**tensors, kinds=kinds)
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"{folder / name} is truncated or damaged ({error}); copy or fit it again") from error
        rows = {len(tensor) if tensor.ndim else -1 for tensor in tensors.values()} | {len(contexts.kinds)}
        known = all(isinstance(kind, str) for kind in contexts.kinds)
        if len(rows) != 1 or contexts.latents.ndim != 5 or contexts.positions.ndim != 4 or not (known and rows.pop()):
            raise BundleError(
                f"{folder / name} holds no start contexts as they should be; copy or fit the bundle again"
            )
        return contexts
