"""Where can dreams start? At real contexts of training episodes, which a bundle stores."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
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


def windows(
    clips: Sequence[Tensor], length: int, count: int, kind: str, positions: Sequence[Tensor] | None = None
) -> Contexts:
    """Contexts that lie evenly over clips of latents.

    Args:
        clips: Normalised latents, oldest first, (T, C, h, w) each.
        length: Of a context, K.
        count: How many at most.
        kind: Of them all.
        positions: Of N markers in every clip, (T, N, 2); there are no markers when not given.

    Raises:
        ValueError: If no clip is long enough.
    """
    every = [(row, first) for row, clip in enumerate(clips) for first in range(len(clip) - length + 1)]
    if not every:
        longest = max(map(len, clips), default=0)
        raise ValueError(f"a dream starts from {length} frames in a row, and the longest clip has {longest}")
    chosen = [every[index] for index in torch.linspace(0, len(every) - 1, min(count, len(every))).long().tolist()]
    known = [torch.zeros(len(clip), 0, 2) for clip in clips] if positions is None else positions
    return Contexts(
        latents=torch.stack([clips[row][first : first + length] for row, first in chosen]).half(),
        positions=torch.stack([known[row][first : first + length] for row, first in chosen]),
        states=torch.zeros(len(chosen), 0, dtype=torch.float64),
        episodes=torch.tensor([row for row, _ in chosen]),
        starts=torch.tensor([first for _, first in chosen]),
        kinds=[kind] * len(chosen),
    )
