"""How does the report's checkpoint become a bundle? `cosmos-wm import-seed FILE.pt --cosmos_encoder FILE --out DIR`."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cosmos_isaac_wm.contexts import Contexts, windows
from cosmos_isaac_wm.data import Episode, EpisodeDataset, write_dataset
from cosmos_isaac_wm.data.importers.latents import read_latents
from cosmos_isaac_wm.data.importers.pictures import read_clips
from cosmos_isaac_wm.dynamics import ResNetRollout, load_seed_checkpoint
from cosmos_isaac_wm.perception import Perception
from cosmos_isaac_wm.perception.tokenizers import CosmosTokenizer
from cosmos_isaac_wm.scene import Scene
from cosmos_isaac_wm.storage.structured import content_of
from cosmos_isaac_wm.train import cli
from cosmos_isaac_wm.world_model import WorldModel

_TOGETHER = 8  # pictures encoded in one call; they may be 512 pixels large
KIND = "recorded"


@dataclass(frozen=True)
class ImportSeed:
    """Make a bundle of a checkpoint in the report's form: Conv3d, no actions, latents of a Cosmos tokenizer.

    The checkpoint is read without unpickling. The tokenizer's files are TorchScript, which are programs: use those that
    you have from NVIDIA. The bundle names them and does not copy them.

    Attributes:
        checkpoint: The report's `resnet_rollout_best.pt`.
        out: Folder of the bundle.
        cosmos_encoder: NVIDIA's `encoder.jit`.
        cosmos_decoder: NVIDIA's `decoder.jit`.
        cosmos_video: Whether they are a video (CV) tokenizer.
        latents: A tensor (T, C, h, w), or (N, T, C, h, w) of several clips, saved with `torch.save`, such as the
            report's `dreamed_latents.pt`: dreams start at windows of it.
        frames: Recorded pictures: a folder of them, a video, or a .npy file. Dreams start there where no latents are
            given, and the bundle ships them as episodes, which `cosmos-wm evaluate` and `record` then compare with.
        data: A dataset whose scene it is, with its actions, objects and camera, so that it can be compared with the
            episodes; dreams start at its training episodes where neither latents nor frames are given.
        contexts: How many starts are stored, evenly over all there are.
        control_hz: Frames a second, where no dataset tells.
        name: Of the scene, where no dataset tells.
        seed: Not used; every command takes it.
    """

    checkpoint: Path
    out: Path
    cosmos_encoder: Path
    cosmos_decoder: Path
    cosmos_video: bool = False
    latents: Path | None = None
    frames: Path | None = None
    data: Path | None = None
    contexts: int = 64
    control_hz: float = 10.0
    name: str = "imported"
    seed: int = 0

    def run(self) -> dict[str, float]:
        """Make the bundle, unless that was done before; its sizes."""
        if self.latents is None and self.frames is None and self.data is None:
            raise ValueError("where shall dreams start? Give --latents, --frames or --data")
        if self.frames is not None and self.data is not None:
            raise ValueError("--frames and --data both bring episodes; give one of them")
        if self.contexts < 1:
            raise ValueError(f"--contexts must be at least 1, got {self.contexts}")
        dynamics = load_seed_checkpoint(self.checkpoint)
        tokenizer = CosmosTokenizer(str(self.cosmos_encoder), str(self.cosmos_decoder), self.cosmos_video)
        if tokenizer.channels != dynamics.channels:
            raise ValueError(
                f"{self.checkpoint} dreams latents of {dynamics.channels} channels, {self.cosmos_encoder} makes "
                f"{tokenizer.channels}: they do not belong together"
            )
        provenance = self._provenance(tokenizer)
        if (self.out / "config.yaml").is_file():
            model = WorldModel.load(self.out, "cpu")
            if model.provenance != provenance:
                raise FileExistsError(f"{self.out} holds another bundle; a bundle is never overwritten, choose another")
            cli.going_on(f"the finished bundle {self.out}")
        else:
            model = self._made(dynamics, tokenizer, provenance)
        shape = "x".join(map(str, model.perception.latent_shape))
        print(
            f"{self.out}: {len(model.contexts)} starts of {dynamics.context_length} latents of {shape}; it knows no "
            "positions, so it is stepped in latents, and rewards are 0 without a reward_fn:\n"
            f'  gym.make("CosmosDream-v0", world_model="{self.out}")'
        )
        return {
            "contexts": float(len(model.contexts)),
            "parameters": float(sum(map(torch.numel, dynamics.parameters()))),
        }

    def _made(self, dynamics: ResNetRollout, tokenizer: CosmosTokenizer, provenance: dict[str, Any]) -> WorldModel:
        """The bundle, saved, with the recorded pictures as its episodes."""
        dataset = None if self.data is None else EpisodeDataset(self.data)
        latents = [] if self.latents is None else list(read_latents(self.latents, dynamics.channels))
        clips = [] if self.frames is None else read_clips(self.frames)
        if dataset is not None:
            scene = dataclasses.replace(dataset.scene, environment=None)  # whose observations no heads read here
        elif clips:
            scene = self._scene(clips[0].shape[1:3])
        else:
            scene = self._scene([tokenizer.compression * edge for edge in latents[0].shape[-2:]])
        perception = Perception(scene, tokenizer).eval().requires_grad_(False)
        length = dynamics.context_length
        if latents:
            contexts = windows(latents, length, self.contexts, KIND)
        elif clips:
            contexts = windows([encoded(perception, clip) for clip in clips], length, self.contexts, KIND)
        else:
            assert dataset is not None
            contexts = self._starts_of(dataset, perception, length)
        model = WorldModel(perception, dynamics, contexts, provenance).eval().requires_grad_(False)
        model.save(self.out, beside=lambda folder: ship(folder, clips, scene) if clips else None)
        return model

    def _scene(self, size: Sequence[int]) -> Scene:
        """A scene of which nothing is known but its pictures; its one action does nothing."""
        height, width = size
        return Scene(self.name, self.control_hz, (height, width), action_low=(-1.0,), action_high=(1.0,))

    def _starts_of(self, dataset: EpisodeDataset, perception: Perception, length: int) -> Contexts:
        """Starts at the beginnings of training episodes."""
        indices = dataset.long_enough("train", length)
        chosen = [
            indices[index] for index in np.linspace(0, len(indices) - 1, min(self.contexts, len(indices)), dtype=int)
        ]
        clips, positions, names = [], [], perception.scene.marker_names
        for episode in dataset.episodes(chosen):
            clips.append(encoded(perception, episode.frames[:length]))
            positions.append(torch.from_numpy(episode.marker_positions(names)[:length]))
        starts = windows(clips, length, len(clips), KIND, positions)
        return dataclasses.replace(starts, episodes=torch.tensor(chosen))

    def _provenance(self, tokenizer: CosmosTokenizer) -> dict[str, Any]:
        """How it was made, by the contents of the files."""
        return {
            "command": "cosmos-wm import-seed",
            "checkpoint": _digest(self.checkpoint),
            "tokenizer": tokenizer.fingerprint(),
            "latents": None if self.latents is None else _digest(self.latents),
            "frames": None if self.frames is None else _digest(self.frames),
            "data": None if self.data is None else EpisodeDataset(self.data).fingerprint(),
            "contexts": self.contexts,
            "control_hz": self.control_hz,
            "name": self.name,
            "versions": {name: version(name) for name in ("cosmos-isaac-wm", "torch", "numpy")},
        }


def encoded(perception: Perception, clip: NDArray[np.uint8]) -> Tensor:
    """Latents (T, C, h, w) of frames (T, H, W, 3), a few at a time."""
    return torch.cat([perception.encode(clip[first : first + _TOGETHER]) for first in range(0, len(clip), _TOGETHER)])


def ship(folder: Path, clips: Sequence[NDArray[np.uint8]], scene: Scene) -> None:
    """Write recorded pictures into a bundle as its episodes, in which nothing was done."""
    episodes = (Episode(clip, np.zeros((len(clip) - 1, scene.action_dim), np.float32), KIND) for clip in clips)
    write_dataset(folder / "episodes", episodes, scene, ["test"] * len(clips))


def _digest(path: Path) -> str:
    """A short hash of a file, or of a folder's files and their names."""
    digest = hashlib.sha256()
    for file in sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]:
        digest.update(file.name.encode() if path.is_dir() else b"")
        digest.update(content_of(file))
    return digest.hexdigest()[:16]


def main(argv: Sequence[str] | None = None) -> int:
    """The `cosmos-wm import-seed` command; the checkpoint may stand first, without `--checkpoint`."""
    return cli.run(ImportSeed, "import-seed", cli.first_as("--checkpoint", argv))


if __name__ == "__main__":
    sys.exit(main())
