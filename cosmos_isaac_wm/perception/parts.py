"""What is a perception made of that a file describes? Untrained parts of those shapes, before its weights are read."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from ..borders import own_draws
from ..scene import Scene
from ..spaces import read_space
from ..storage.bundle import from_hub
from ..storage.structured import shaped
from ..storage.weights import must_be_buildable
from .heads import Heads, HeadsConfig
from .readout import Readout, ReadoutConfig
from .tokenizers import CosmosTokenizer, TinyTokenizer, TinyTokenizerConfig


@dataclass
class _Tokenizer:
    """A tokenizer as perception.yaml describes it."""

    type: Literal["tiny", "cosmos"]
    config: dict[str, Any]
    fingerprint: str


@dataclass
class Described:
    """What perception.yaml holds."""

    scene: dict[str, Any]
    tokenizer: _Tokenizer
    readout: ReadoutConfig | None
    adapted_from: str | None = None
    heads: HeadsConfig | None = None


def parts(
    described: Described, folder: Path
) -> tuple[Scene, TinyTokenizer | CosmosTokenizer, Readout | None, Heads | None]:
    """The scene, and untrained tokenizer, readout and heads of the described shapes.

    Args:
        described: What a folder says.
        folder: Where the weights are, which have to be of that size.

    Raises:
        ValueError: If something cannot be.
    """
    scene, weights = Scene.from_dict(described.scene), folder / "perception.safetensors"
    tokenizer = _tokenizer(described.tokenizer, folder, weights)
    readout, heads = described.readout, described.heads
    return scene, tokenizer, _readout(readout, scene, weights), _heads(heads, scene, tokenizer.channels, weights)


def _tokenizer(described: _Tokenizer, folder: Path, weights: Path) -> TinyTokenizer | CosmosTokenizer:
    """An untrained tokenizer, or NVIDIA's."""
    if described.type == "cosmos":
        files = shaped(described.config, _CosmosFiles, "tokenizer")
        if from_hub(folder):
            raise ValueError("it is from the hub, and names NVIDIA's files on this machine, which it cannot know")
        return CosmosTokenizer(**dataclasses.asdict(files))
    shape = shaped(described.config, TinyTokenizerConfig, "tokenizer")
    must_be_buildable(shape, lambda: TinyTokenizer(shape), weights)
    with own_draws():
        tokenizer = TinyTokenizer(shape)
    tokenizer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return tokenizer


@dataclass
class _CosmosFiles:
    """The arguments of a `CosmosTokenizer`."""

    encoder: str
    decoder: str
    video: bool = False
    temporal_compression: int = 8


def _readout(shape: ReadoutConfig | None, scene: Scene, weights: Path) -> Readout | None:
    """An untrained readout for a scene, if there is to be one."""
    if shape is None:
        return None
    low, high = scene.workspace_low, scene.workspace_high
    if low is None or high is None:
        raise ValueError("a readout needs the scene's workspace bounds")
    must_be_buildable(shape, lambda: Readout(shape, low, high), weights)
    with own_draws():
        return Readout(shape, low, high)


def _heads(shape: HeadsConfig | None, scene: Scene, channels: int, weights: Path) -> Heads | None:
    """Untrained heads for a scene, if there are to be some."""
    if shape is None:
        return None
    if (shape.channels, shape.actions) != (channels, scene.action_dim) or scene.environment is None:
        raise ValueError("its heads are for another tokenizer, other actions, or a scene that is no environment")
    for space in (scene.environment.observation_space, scene.environment.action_space):
        read_space(space)  # which is an error now if it is none
    must_be_buildable(shape, lambda: Heads(shape), weights)
    with own_draws():
        return Heads(shape)
