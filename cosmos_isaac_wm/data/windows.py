"""Which windows does training see? Encoded episodes in memory, and where windows of them begin.

Where the scene is left-right symmetric every episode is encoded a second time in the mirror, which doubles the data.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from ..scene import Scene
from ..storage.atomic import replacing
from .dataset import EpisodeDataset
from .episodes import DatasetError, Episode


@dataclass
class EncodedEpisodes:
    """Latents, actions and positions of E episodes of L frames each, shorter ones padded at the end.

    Attributes:
        latents: Normalised latents, float16 (E, L, C, h, w).
        actions: In the scene's units, float32 (E, L - 1, A); `actions[:, t]` leads from frame t to t + 1.
        positions: Metres, float32 (E, L, N, 2), NaN where absent.
        headings: Cosine and sine of a marker's symmetry x its angle, float32 (E, L, N, 2), NaN where unknown.
        lengths: Frames of each episode, (E,).
        sources: Episode number in the dataset, (E,).
        kinds: Kind of each episode.
    """

    latents: Tensor
    actions: Tensor
    positions: Tensor
    headings: Tensor
    lengths: Tensor
    sources: Tensor
    kinds: list[str]

    def __len__(self) -> int:
        return len(self.latents)

    def select(self, rows: Sequence[int] | NDArray[np.int64]) -> EncodedEpisodes:
        """Some of the episodes, in that order."""
        parts = vars(self) | {"kinds": [self.kinds[row] for row in rows]}
        chosen = {name: part[list(rows)] for name, part in parts.items() if name != "kinds"}
        return EncodedEpisodes(**chosen, kinds=parts["kinds"])


def mirror_episode(episode: Episode, scene: Scene) -> Episode:
    """The same episode in a mirror: picture, x and headings flipped, actions multiplied by `scene.mirror_actions`."""
    if scene.mirror_actions is None:
        raise ValueError("the scene does not say what its actions are in the mirror; expected `mirror_actions`")
    signs = np.array(scene.mirror_actions, np.float32)
    flip = np.array([-1.0, 1.0], np.float32)
    return Episode(
        frames=np.ascontiguousarray(episode.frames[:, :, ::-1]),
        actions=episode.actions * signs,
        kind=episode.kind,
        seed=episode.seed,
        positions={name: values * flip for name, values in episode.positions.items()},
        headings={name: np.float32(np.pi) - values for name, values in episode.headings.items()},
    )


def encode_dataset(
    dataset: EpisodeDataset,
    split: str,
    encode: Callable[[Tensor], Tensor],
    fingerprint: str,
    cache: Path | None,
    mirrored: bool = False,
) -> EncodedEpisodes:
    """Encode a split, or read it from the cache if it was made by the same tokenizer from the same data.

    Args:
        dataset: The episodes.
        split: Which split.
        encode: uint8 frames (B, H, W, 3) to normalised latents (B, C, h, w).
        fingerprint: Of encoder and latent statistics.
        cache: Folder for the encoded episodes, or None.
        mirrored: Append every episode's mirror image, where the dataset's scene has `mirror_actions`.
    """
    mirrored = mirrored and dataset.scene.mirror_actions is not None
    name = f"latents-{dataset.fingerprint()}-{fingerprint}-{split}{'-mirrored' if mirrored else ''}.safetensors"
    if cache is not None and (cache / name).is_file():
        return _read(cache / name)
    scene, indices = dataset.scene, dataset.indices(split)
    rows: list[dict[str, Tensor]] = []
    sources, kinds = [], []
    for mirror in (False, True)[: 1 + mirrored]:
        what = f"encode {split}{' mirrored' if mirror else ''}"
        for index in tqdm(indices, desc=what, unit="episode"):
            episode = mirror_episode(dataset[index], scene) if mirror else dataset[index]
            rows.append(_encoded(episode, scene, encode))
            sources.append(index)
            kinds.append(episode.kind)
    lengths = torch.tensor([len(row["latents"]) for row in rows])
    padded = {
        name: torch.stack([_pad(row[name], _frames(name, int(lengths.max()))) for row in rows]) for name in rows[0]
    }
    encoded = EncodedEpisodes(**padded, lengths=lengths, sources=torch.tensor(sources), kinds=kinds)
    if cache is not None:
        tensors = {name: value for name, value in vars(encoded).items() if name != "kinds"}
        with replacing(cache / name) as temporary:
            save_file(tensors, temporary, metadata={"kinds": json.dumps(encoded.kinds)})
    return encoded


def _read(path: Path) -> EncodedEpisodes:
    """Encoded episodes from the cache."""
    try:
        with safe_open(path, framework="pt") as file:
            kinds = json.loads(file.metadata()["kinds"])
        return EncodedEpisodes(**load_file(path), kinds=kinds)
    except (SafetensorError, TypeError) as error:  # cut off, or with the fields of another version
        raise DatasetError(f"{path} is damaged ({error}); delete it, and it is encoded again") from error


def _encoded(episode: Episode, scene: Scene, encode: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """An episode's rows of the fields of `EncodedEpisodes` that have a time axis."""
    latents = torch.cat([encode(chunk).half().cpu() for chunk in torch.from_numpy(episode.frames).split(32)])
    return {
        "latents": latents,
        "actions": torch.from_numpy(episode.actions),
        "positions": torch.from_numpy(episode.marker_positions(scene.marker_names)),
        "headings": torch.from_numpy(episode.marker_headings(scene)),
    }


def _frames(name: str, length: int) -> int:
    """How long a field of `EncodedEpisodes` is for episodes of that many frames."""
    return length - 1 if name == "actions" else length


def _pad(tensor: Tensor, length: int) -> Tensor:
    """Repeat the last row until there are `length`."""
    return torch.cat([tensor, tensor[-1:].expand(length - len(tensor), *tensor.shape[1:])])


class WindowSampler:
    """Draws where windows begin, more often where the first marker moves.

    Args:
        episodes: What to draw from.
        kind: Draw from the episodes of this kind only.
        context_length: K; a window begins K - 1 frames before its last context frame.
        motion_bias: Weight that a window gains per decimetre that the object moves ahead of it; a resting one has 1.
        horizon: Frames ahead in which motion counts.
    """

    def __init__(self, episodes: EncodedEpisodes, kind: str, context_length: int, motion_bias: float, horizon: int = 8):
        starts = []
        for index, length in enumerate(episodes.lengths.tolist()):
            if episodes.kinds[index] != kind:
                continue
            last = np.arange(context_length - 1, length - 1)  # index of the last context frame
            if episodes.positions.shape[2]:
                track = episodes.positions[index, :length, 0].numpy()
                ahead = track[np.minimum(last + horizon, length - 1)]
                moved = np.linalg.norm(ahead - track[last], axis=-1)
                weight = 1.0 + motion_bias * 10 * np.nan_to_num(moved)
            else:
                weight = np.ones(len(last))
            starts.append(np.stack([np.full(len(last), index), last, weight], axis=1))
        table = np.concatenate(starts) if starts else np.empty((0, 3))
        if not len(table):
            raise DatasetError(f"no episode of kind {kind!r} is longer than the context of {context_length} frames")
        self._table, self._cumulative = table[:, :2].astype(np.int64), np.cumsum(table[:, 2])

    def draw(self, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """(episode, index of the last context frame), (count, 2)."""
        return self._table[np.searchsorted(self._cumulative, rng.random(count) * self._cumulative[-1], side="right")]


def join(parts: Sequence[EncodedEpisodes]) -> EncodedEpisodes:
    """Episodes of several datasets as one; shorter ones are padded."""
    if len(parts) == 1:
        return parts[0]
    length = max(part.latents.shape[1] for part in parts)

    def stacked(name: str) -> Tensor:
        rows = [_pad(row, _frames(name, length)) for part in parts for row in getattr(part, name)]
        return torch.stack(rows)

    return EncodedEpisodes(
        latents=stacked("latents"),
        actions=stacked("actions"),
        positions=stacked("positions"),
        headings=stacked("headings"),
        lengths=torch.cat([part.lengths for part in parts]),
        sources=torch.cat([part.sources for part in parts]),
        kinds=[kind for part in parts for kind in part.kinds],
    )
