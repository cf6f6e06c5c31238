"""Which windows does training see? Encoded episodes in memory, and where windows of them begin.

Where the scene is left-right symmetric every episode is encoded a second time in the mirror, which doubles the data.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from ..scene import Scene
from ..storage.atomic import must_have_room
from ..storage.weights import read_tensors, save_tensors
from .dataset import EpisodeDataset
from .episodes import DatasetError, Episode
from .stored import desired, observed

_OF_STEPS = ("actions", "rewards", "ends")
_OF_EPISODES = ("lengths", "sources")  # without a time axis


@dataclass
class EncodedEpisodes:
    """Latents, actions and what is true of E episodes of L frames each, shorter ones padded at the end.

    Attributes:
        latents: Normalised latents, float16 (E, L, C, h, w).
        actions: In the scene's units, float32 (E, L - 1, A); `actions[:, t]` leads from frame t to t + 1.
        positions: Metres, float32 (E, L, N, 2), NaN where absent.
        headings: Cosine and sine of a marker's symmetry x its angle, float32 (E, L, N, 2), NaN where unknown.
        observed: What a foreign environment observed, flat, float32 (E, L, D); D is 0 of any other scene.
        goals: What a goal environment desired, float32 (E, L, G); G is 0 of any other scene.
        rewards: Of every action, float32 (E, L - 1); 0 where they were not recorded.
        ends: 1 where an action ended the episode, else 0, float32 (E, L - 1).
        lengths: Frames of each episode, (E,).
        sources: Episode number in the dataset, (E,).
        kinds: Kind of each episode.
        rest: Frames, in front of every episode, that repeat its first one; no action led from one to the next.
    """

    latents: Tensor
    actions: Tensor
    positions: Tensor
    headings: Tensor
    observed: Tensor
    goals: Tensor
    rewards: Tensor
    ends: Tensor
    lengths: Tensor
    sources: Tensor
    kinds: list[str]
    rest: int = 0

    def __len__(self) -> int:
        return len(self.latents)

    def select(self, rows: Sequence[int] | NDArray[np.int64]) -> EncodedEpisodes:
        """Some of the episodes, in that order."""
        chosen = {name: part[list(rows)] for name, part in _tensors(self).items()}
        return replace(self, **chosen, kinds=[self.kinds[row] for row in rows])

    def rested(self, frames: int) -> EncodedEpisodes:
        """The same, as if everything had rested for so many frames before: windows may begin there."""
        if not frames:
            return self
        front: dict[str, Any] = {
            name: torch.cat([part[:, :1].expand(-1, frames, *part.shape[2:]), part], dim=1)
            for name, part in _tensors(self).items()
            if name not in _OF_EPISODES
        }
        return replace(self, **front, lengths=self.lengths + frames, rest=self.rest + frames)

    def unrested(self) -> EncodedEpisodes:
        """The same without the rest before them."""
        moved: dict[str, Any] = {
            name: part.roll(-self.rest, dims=1) for name, part in _tensors(self).items() if name not in _OF_EPISODES
        }
        return replace(self, **moved, lengths=self.lengths - self.rest, rest=0)

    def led(self, episodes: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """The actions that led to frames (n, m) of episodes (n,), (n, m, A), and where there was one, (n, m)."""
        steps = frames - 1
        return self.actions[episodes[:, None], steps.clamp(min=0)], steps >= self.rest

    def resident_on(self, device: torch.device) -> EncodedEpisodes:
        """The same in a device's memory, but for latents that do not fit there (`fits_on`).

        Where these stay in the host's memory, windows of them have to be gathered there in every update, for which a
        GPU waits.
        """
        latents = self.latents.to(device) if fits_on(device, self.latents) else self.latents
        moved = {name: part.to(device) for name, part in _tensors(self).items() if name != "latents"}
        return replace(self, latents=latents, **moved)


def _tensors(episodes: EncodedEpisodes) -> dict[str, Any]:
    return {name: part for name, part in vars(episodes).items() if isinstance(part, Tensor)}


def fits_on(device: torch.device, tensor: Tensor) -> bool:
    """Whether a tensor takes less than half of the memory that a GPU has free; the other half is for networks.

    On the processor, where it is already, anything does.
    """
    return device.type != "cuda" or tensor.nbytes < torch.cuda.mem_get_info(device)[0] / 2


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
    name = f"episodes-{dataset.fingerprint()}-{fingerprint}-{split}{'-mirrored' if mirrored else ''}.safetensors"
    if cache is not None and (cache / name).exists():
        try:
            return _read(cache / name)
        except DatasetError as error:
            print(f"{error}; the episodes are encoded again", file=sys.stderr)
    scene, indices = dataset.scene, dataset.indices(split)
    rows: list[dict[str, Tensor]] = []
    sources, kinds = [], []
    for mirror in (False, True)[: 1 + mirrored]:
        what = f"encode {split}{' mirrored' if mirror else ''}"
        for index in tqdm(indices, desc=what, unit="episode"):
            episode = mirror_episode(dataset[index], scene) if mirror else dataset[index]
            rows.append(_encoded(episode, scene, encode))
            if cache is not None and len(rows) == 1:  # what will not fit is an error now
                frames = (1 + mirrored) * sum(dataset.lengths[member] + 1 for member in indices)
                must_have_room(cache / name, frames * rows[0]["latents"][0].nbytes)
            sources.append(index)
            kinds.append(episode.kind)
    encoded = _together(rows, sources, kinds)
    if cache is not None:
        save_tensors(cache / name, _tensors(encoded), {"kinds": json.dumps(encoded.kinds)})
    return encoded


def encode_episodes(episodes: Sequence[Episode], scene: Scene, encode: Callable[[Tensor], Tensor]) -> EncodedEpisodes:
    """Encode episodes of a scene that are in no dataset; `encode` as of `encode_dataset`."""
    rows = [_encoded(episode, scene, encode) for episode in episodes]
    return _together(rows, range(len(rows)), [episode.kind for episode in episodes])


def _together(rows: Sequence[dict[str, Tensor]], sources: Sequence[int], kinds: list[str]) -> EncodedEpisodes:
    lengths = torch.tensor([len(row["latents"]) for row in rows])
    padded: dict[str, Any] = {
        name: torch.stack([_pad(row[name], _frames(name, int(lengths.max()))) for row in rows]) for name in rows[0]
    }
    return EncodedEpisodes(**padded, lengths=lengths, sources=torch.tensor(sources), kinds=kinds)


def _read(path: Path) -> EncodedEpisodes:
    """Encoded episodes from the cache."""
    tensors, metadata = read_tensors(path, DatasetError)
    fields: dict[str, Any] = dict(tensors)
    try:
        return EncodedEpisodes(**fields, kinds=json.loads(metadata["kinds"]))
    except (KeyError, TypeError, ValueError) as error:  # with the fields of another version
        raise DatasetError(f"{path} is damaged: {error}") from error


def _encoded(episode: Episode, scene: Scene, encode: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """An episode's rows of the fields of `EncodedEpisodes` that have a time axis."""
    latents = torch.cat([encode(chunk).half().cpu() for chunk in torch.from_numpy(episode.frames).split(32)])
    return {
        "latents": latents,
        "actions": torch.from_numpy(episode.actions),
        "positions": torch.from_numpy(episode.marker_positions(scene.marker_names)),
        "headings": torch.from_numpy(episode.marker_headings(scene)),
        "observed": torch.from_numpy(observed(episode, scene)),
        "goals": torch.from_numpy(desired(episode, scene)),
        "rewards": torch.from_numpy(_told(episode.rewards, len(episode))),
        "ends": torch.from_numpy(_told(episode.terminations, len(episode))),
    }


def _told(values: NDArray[Any] | None, steps: int) -> NDArray[np.float32]:
    """What was recorded at every step, or zeros."""
    return np.zeros(steps, np.float32) if values is None else np.asarray(values, np.float32)


def _frames(name: str, length: int) -> int:
    """How long a field of `EncodedEpisodes` is for episodes of that many frames."""
    return length - 1 if name in _OF_STEPS else length


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
        lengths = episodes.lengths.cpu()
        last = torch.arange(int(lengths.max()))  # a frame that may be the last of a context
        of_kind = torch.tensor([own == kind for own in episodes.kinds])
        fits = of_kind[:, None] & (last >= context_length - 1) & (last < lengths[:, None] - 1)  # (E, L)
        table = fits.nonzero()
        if not len(table):
            raise DatasetError(f"no episode of kind {kind!r} is longer than the context of {context_length} frames")
        weight = torch.ones(len(table), dtype=torch.float64)
        if episodes.positions.shape[2]:
            track = episodes.positions[:, :, 0].cpu().double()
            episode, frame = table.unbind(dim=1)
            ahead = torch.minimum(frame + horizon, lengths[episode] - 1)
            weight += motion_bias * 10 * (track[episode, ahead] - track[episode, frame]).norm(dim=-1).nan_to_num()
        device = episodes.lengths.device
        self._table, self._cumulative = table.to(device), weight.cumsum(dim=0).to(device)

    def draw(self, chances: Tensor) -> Tensor:
        """(episode, index of the last context frame), int64 (count, 2), for numbers in [0, 1), float64 (count,).

        On the episodes' device, and without waiting for it.
        """
        places = torch.searchsorted(self._cumulative, chances * self._cumulative[-1], right=True)
        return self._table[places.clamp(max=len(self._table) - 1)]


def join(parts: Sequence[EncodedEpisodes]) -> EncodedEpisodes:
    """Episodes of several datasets as one; shorter ones are padded."""
    if len(parts) == 1:
        return parts[0]
    length = max(part.latents.shape[1] for part in parts)
    assert not any(part.rest for part in parts), "episodes are joined before they have rested"

    def stacked(name: str) -> Tensor:
        rows = [_pad(row, _frames(name, length)) for part in parts for row in getattr(part, name)]
        return torch.stack(rows)

    timed: dict[str, Any] = {name: stacked(name) for name in _tensors(parts[0]) if name not in _OF_EPISODES}
    return EncodedEpisodes(
        **timed,
        lengths=torch.cat([part.lengths for part in parts]),
        sources=torch.cat([part.sources for part in parts]),
        kinds=[kind for part in parts for kind in part.kinds],
    )
