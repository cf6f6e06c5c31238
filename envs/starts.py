"""Where does a dream start? At a stored context, or from frames or latents of the user's: what `reset` may be asked."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ..perception import Perception
from ..world_model import Contexts, WorldModel

START_OPTIONS = ("episode", "start", "frames", "latents")


def check_options(options: Mapping[str, Any] | None, known: Collection[str]) -> dict[str, Any]:
    """A copy of the reset options.

    Raises:
        ValueError: If one of them is unknown.
    """
    options = dict(options or {})
    if unknown := sorted(set(options) - set(known)):
        raise ValueError(f"unknown reset options {unknown}; expected some of {sorted(known)}")
    return options


def default_kind(world_model: WorldModel) -> str | None:
    """The first kind of episode among the stored contexts that shows the agent, or None where that is not known."""
    contexts, agent = world_model.contexts, world_model.scene.agent_index
    if agent is None or agent >= contexts.positions.shape[2]:
        return None
    shown = ~contexts.positions[:, -1, agent].isnan().any(-1)
    return next((kind for kind, there in zip(contexts.kinds, shown.tolist(), strict=True) if there), None)


def matching_contexts(
    contexts: Contexts, kind: str | None, episode: int | None = None, start: int | None = None
) -> NDArray[np.int64]:
    """Indices of the stored contexts of a kind (any when None), or of an episode, or of one window of it.

    Raises:
        ValueError: If there is none; the message lists what there is.
    """
    wanted = np.ones(len(contexts), dtype=bool)
    if episode is not None:
        wanted &= contexts.episodes.numpy() == episode
        if start is not None:
            wanted &= contexts.starts.numpy() == start
    elif start is not None:
        raise ValueError('options["start"] needs options["episode"] beside it')
    elif kind is not None:
        wanted &= np.array(contexts.kinds) == kind
    if not wanted.any():
        stored: dict[int, list[int]] = {}
        for number, first in zip(contexts.episodes.tolist(), contexts.starts.tolist(), strict=True):
            stored.setdefault(number, []).append(first)
        listed = ", ".join(f"{number}: {sorted(starts)}" for number, starts in sorted(stored.items())[:20])
        asked = f"kind {kind!r}" if episode is None else f"episode {episode}"
        asked += "" if start is None else f" that starts at frame {start}"
        raise ValueError(
            f"the bundle stores no context of {asked}; it has the kinds {sorted(set(contexts.kinds))} and "
            f"{len(stored)} episodes, as episode: [starts]: {listed}{', ...' if len(stored) > 20 else ''}"
        )
    return np.flatnonzero(wanted)


def check_latents(latents: ArrayLike | Tensor, shape: tuple[int, ...], num_envs: int) -> Tensor:
    """Latents of the user's own as contexts.

    Args:
        latents: Normalised, (K, C, h, w) for all environments alike, or (B, K, C, h, w).
        shape: (K, C, h, w).
        num_envs: B.

    Returns:
        (B, K, C, h, w).

    Raises:
        ValueError: If the shape is another or a value is not finite.
    """
    values = torch.as_tensor(latents, dtype=torch.float32)
    if tuple(values.shape) not in (shape, (num_envs, *shape)) or not bool(values.isfinite().all()):
        raise ValueError(
            f'options["latents"] must be finite normalised latents of shape {shape}, oldest first'
            f"{f', or {(num_envs, *shape)}' if num_envs > 1 else ''}; got shape {tuple(values.shape)}"
        )
    return values.expand(num_envs, *shape)


def encode_frames(perception: Perception, frames: ArrayLike, length: int, num_envs: int) -> Tensor:
    """The user's own real frames as contexts.

    Args:
        perception: Encodes them.
        frames: uint8 RGB pictures (K, H, W, 3), oldest first, for all environments alike, or (B, K, H, W, 3).
        length: K.
        num_envs: B.

    Returns:
        Normalised latents (B, K, C, h, w).

    Raises:
        ValueError: If their number, size or type is another.
    """
    frames = np.asarray(frames)
    one = (length, *perception.scene.image_size, 3)
    if frames.dtype != np.uint8 or frames.shape not in (one, (num_envs, *one)):
        raise ValueError(
            f'options["frames"] must be uint8 RGB pictures of shape {one}, oldest first'
            f"{f', or {(num_envs, *one)}' if num_envs > 1 else ''}; got {frames.dtype} of shape {frames.shape}"
        )
    latents = perception.encode(frames.reshape(-1, *one[1:])).unflatten(0, (-1, length))
    return latents.expand(num_envs, *latents.shape[1:])


def start_contexts(
    world_model: WorldModel,
    kind: str | None,
    slots: NDArray[np.int64],
    generators: Sequence[np.random.Generator],
    options: Mapping[str, Any],
    num_envs: int,
) -> Tensor:
    """Real contexts for some dreams: the user's own, the stored ones that are asked for, or drawn ones.

    Args:
        world_model: Stores contexts, and encodes frames.
        kind: Of the drawn ones.
        slots: Which dreams they are for, (b,).
        generators: One per slot.
        options: See `START_OPTIONS`.
        num_envs: B.

    Returns:
        Normalised latents (b, K, C, h, w).

    Raises:
        ValueError: If an option is impossible, or several exclude one another.
    """
    stored_one = "episode" in options or "start" in options
    if stored_one + ("frames" in options) + ("latents" in options) > 1:
        raise ValueError('pass one of options["frames"], ["latents"] and ["episode"], not both')
    length, perception, stored = world_model.dynamics.context_length, world_model.perception, world_model.contexts
    if "latents" in options:
        return check_latents(options["latents"], (length, *perception.latent_shape), num_envs)[slots]
    if "frames" in options:
        return encode_frames(perception, options["frames"], length, num_envs)[slots]
    asked = [
        np.broadcast_to(options[key], num_envs)[slots].tolist() if key in options else [None] * len(slots)
        for key in ("episode", "start")
    ]
    wanted = list(zip(*asked, strict=True))
    choices = {which: matching_contexts(stored, kind, *which) for which in set(wanted)}  # one look-up serves all alike
    drawn = [rng.choice(choices[which]) for rng, which in zip(generators, wanted, strict=True)]
    return stored.latents[torch.tensor(drawn)].float()
