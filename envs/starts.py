"""Where does a dream start? At a stored context, or from frames or latents of the user's: what `reset` may be asked."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Discrete
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ..borders import array_of, how_to_convert, integer, tensor_of
from ..contexts import BEGINNING, Contexts
from ..counter_rng import uniform
from ..perception import Perception
from ..spaces import action_vectors, read_space
from ..world_model import WorldModel
from ..worlds import Glimpse, Task

START_OPTIONS = ("episode", "start", "frames", "latents", "actions")


def check_options(options: Mapping[str, Any] | None, known: Collection[str]) -> dict[str, Any]:
    """A copy of the reset options.

    Raises:
        ValueError: If one of them is unknown.
    """
    if options is not None and not isinstance(options, Mapping):
        raise ValueError(f"options: expected a dict, got {options!r}")
    options = dict(options or {})
    if unknown := sorted(map(str, set(options) - set(known))):
        raise ValueError(f"unknown reset options {unknown}; expected some of {sorted(known)}")
    return options


def reset_mask(asked: Any, num_envs: int) -> NDArray[np.bool_]:
    """Which of B dreams to reset, (B,); all when it is not said.

    Raises:
        ValueError: If it is no such mask.
    """
    mask = np.ones(num_envs, bool) if asked is None else asked
    mask = mask.cpu().numpy() if isinstance(mask, Tensor) else np.asarray(mask)
    if mask.dtype != bool or mask.shape != (num_envs,) or not mask.any():
        raise ValueError(
            f'options["reset_mask"] must be a boolean array of shape ({num_envs},) with at least one True, '
            f"got {mask.dtype} of shape {mask.shape}"
        )
    return mask


def one_seed_each(seed: int | Sequence[int | None] | None, num_envs: int) -> Sequence[int | None]:
    """A seed for each of B dreams: `seed + i`, or the i-th of several, or None.

    Raises:
        ValueError: If there are not B, or one is below 0.
    """
    if seed is None:
        return [None] * num_envs
    given: Any = seed.tolist() if isinstance(seed, np.ndarray | np.generic | Tensor) else seed
    if isinstance(given, Sequence) and not isinstance(given, str):
        seeds = [None if own is None else integer(own, "seed") for own in given]
    else:
        seeds = [integer(given, "seed") + i for i in range(num_envs)]
    if len(seeds) != num_envs:
        raise ValueError(f"expected one seed or {num_envs} of them, got {len(seeds)}")
    if any(own is not None and own < 0 for own in seeds):
        raise ValueError(f"seeds are 0 or more, got {seeds}")
    return seeds


def default_kind(world_model: WorldModel) -> str | None:
    """The first kind of episode among the stored contexts that shows the agent, or None where that is not known.

    Of a foreign environment it is the beginning of its episodes.
    """
    contexts, agent = world_model.contexts, world_model.scene.agent_index
    if world_model.scene.environment is not None and BEGINNING in contexts.kinds:
        return BEGINNING
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
    values = tensor_of(latents, 'options["latents"]', torch.float32)
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
    frames = array_of(frames, 'options["frames"]')
    one = (length, *perception.scene.image_size, 3)
    if frames.dtype != np.uint8 or frames.shape not in (one, (num_envs, *one)):
        raise ValueError(
            f'options["frames"] must be uint8 RGB pictures of shape {one}, oldest first'
            f"{f', or {(num_envs, *one)}' if num_envs > 1 else ''}; got {frames.dtype} of shape {frames.shape}"
            f"{how_to_convert(frames.dtype, frames.shape)}"
        )
    latents = perception.encode(frames.reshape(-1, *one[1:])).unflatten(0, (-1, length))
    return latents.expand(num_envs, *latents.shape[1:])


def asked_contexts(
    world_model: WorldModel, kind: str | None, options: Mapping[str, Any], num_envs: int, keys: Tensor
) -> tuple[Tensor, Tensor | None] | None:
    """The contexts that reset options ask for: the user's own, or stored ones of episodes.

    Args:
        world_model: Stores contexts, and encodes frames.
        kind: Of stored ones where an option leaves it open.
        options: See `START_OPTIONS`.
        num_envs: B.
        keys: Of the random numbers that choose where an option leaves several, (B,).

    Returns:
        Normalised latents (B, K, C, h, w) and the scaled actions that led through them, (B, K - 1, A), None where these
        are unknown; or None where nothing is asked for.

    Raises:
        ValueError: If an option is impossible, or several exclude one another.
    """
    stored_one = "episode" in options or "start" in options
    if stored_one + ("frames" in options) + ("latents" in options) > 1:
        raise ValueError('pass one of options["frames"], ["latents"] and ["episode"], not both')
    length, perception, stored = world_model.dynamics.context_length, world_model.perception, world_model.contexts
    past = _asked_past(world_model, options, num_envs)
    if "latents" in options:
        return check_latents(options["latents"], (length, *perception.latent_shape), num_envs), past
    if "frames" in options:
        return encode_frames(perception, options["frames"], length, num_envs), past
    if not stored_one:
        return None
    asked = [_one_each(options.get(key), key, num_envs) for key in ("episode", "start")]
    wanted = list(zip(*asked, strict=True))
    choices = {which: matching_contexts(stored, kind, *which) for which in set(wanted)}  # one look-up serves all alike
    shares = uniform(keys).tolist()
    drawn = [choices[which][int(share * len(choices[which]))] for which, share in zip(wanted, shares, strict=True)]
    return stored.latents[torch.tensor(drawn, device="cpu")].float(), None


def _asked_past(world_model: WorldModel, options: Mapping[str, Any], num_envs: int) -> Tensor | None:
    """The actions that led through the user's own frames or latents, scaled, (B, K - 1, A); None where unknown.

    Raises:
        ValueError: If there are no such frames, or the actions are of another shape or not finite.
    """
    if options.get("actions") is None:
        return None
    if "frames" not in options and "latents" not in options:
        raise ValueError('options["actions"] led through options["frames"] or ["latents"]: pass one of these, too')
    scene, steps = world_model.scene, world_model.dynamics.context_length - 1
    values = tensor_of(options["actions"], 'options["actions"]', torch.float32, world_model.device)
    if not bool(values.isfinite().all()):
        raise ValueError('options["actions"] must be finite')
    space = None if scene.environment is None else read_space(scene.environment.action_space)
    if isinstance(space, Discrete):
        chosen = values.cpu().numpy()
        if not all(space.contains(choice) for choice in chosen.astype(np.int64).flat) or (chosen % 1).any():
            raise ValueError(f'options["actions"] must be choices of {space}, got {chosen.tolist()}')
        values = torch.from_numpy(action_vectors(space, chosen)).to(values).unflatten(0, values.shape)
    elif space is not None and len(own := space.shape or ()) > 1 and tuple(values.shape[-len(own) :]) == own:
        values = values.flatten(-len(own))
    one = (steps, scene.action_dim)
    if tuple(values.shape) not in (one, (num_envs, *one)):
        raise ValueError(
            f'options["actions"] must be the {steps} actions between the frames, {one}'
            f"{f', or {(num_envs, *one)}' if num_envs > 1 else ''}; got shape {tuple(values.shape)}"
        )
    return world_model.perception.scale_actions(values).expand(num_envs, *one)


def _one_each(value: Any, name: str, num_envs: int) -> list[int | None]:
    """A number for each of B environments from one or B of them; None where it is not said.

    Raises:
        ValueError: If they are no whole numbers, or others than one or B.
    """
    if value is None:
        return [None] * num_envs
    name = f'options["{name}"]'
    numbers = array_of(value, name)
    if numbers.shape not in ((), (num_envs,)):
        raise ValueError(f"{name}: expected a number, or {num_envs} of them; got shape {numbers.shape}")
    return [integer(own, name) for own in np.broadcast_to(numbers, num_envs).tolist()]


class Starts:
    """What dreams of a kind restart from, ready on the device, so that no restart is a matter of the host.

    Args:
        world_model: Stores contexts.
        kind: Of episode; any when None.
        task: Looks at all of them once.

    Attributes:
        latents: The contexts, normalised, (n, K, C, h, w).
    """

    def __init__(self, world_model: WorldModel, kind: str | None, task: Task):
        chosen = torch.from_numpy(matching_contexts(world_model.contexts, kind))
        self.latents = world_model.contexts.latents[chosen].float().to(world_model.device)
        self._glimpse = task.glimpse(self.latents)
        seen = task.observe(self.latents[:, -1]) if task.observes == "latents" else None
        self._first = seen if isinstance(seen, Tensor) else None

    def draw(self, keys: Tensor) -> Tensor:
        """One of them for each of B episodes, by its key, (B,)."""
        return (uniform(keys) * len(self.latents)).long()

    def glimpse(self, choice: Tensor) -> Glimpse:
        """What is seen where the chosen ones begin."""
        return self._glimpse[choice]

    def first(self, choice: Tensor) -> Tensor | None:
        """The latents or pictures that are observed there; None where more is, which the task remembers."""
        return None if self._first is None else self._first[choice]
