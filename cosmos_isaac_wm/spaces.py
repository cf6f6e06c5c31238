"""How do a foreign environment's actions and observations become vectors, and vectors these again?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
import torch
from gymnasium import spaces
from minari.serialization import deserialize_space
from numpy.typing import NDArray
from torch import Tensor

Space = spaces.Space[Any]
ACHIEVED, DESIRED = "achieved_goal", "desired_goal"
PIXELS, STATE = "pixels", "state"  # as Gymnasium's AddRenderObservation names the picture, and what stands beside it


def read_space(text: str) -> Space:
    """A space of actions or observations as Minari writes it, never anything else.

    Raises:
        ValueError: If it is none.
    """
    try:
        return deserialize_space(text)
    except Exception as error:  # whatever a damaged description makes Gymnasium raise
        raise ValueError(f"a space is damaged: {error}") from error


def is_picture(space: Space) -> TypeGuard[spaces.Box]:
    """Whether observations of a space are pictures: uint8 (H, W, 3)."""
    return isinstance(space, spaces.Box) and space.dtype == np.uint8 and space.shape[2:] == (3,)


def goal_space(space: Space) -> spaces.Box | None:
    """The space of goals where observations are a goal environment's, as Gymnasium-Robotics has them; else None."""
    if not isinstance(space, spaces.Dict) or not {"observation", ACHIEVED, DESIRED} <= set(space.spaces):
        return None
    achieved, desired = space[ACHIEVED], space[DESIRED]
    if not (isinstance(achieved, spaces.Box) and isinstance(desired, spaces.Box)):
        return None
    return desired if achieved.shape == desired.shape and len(desired.shape) == 1 else None


def action_bounds(space: Space, whose: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Least and greatest value of each dimension of `action_vectors`; a discrete action has one for each choice.

    Args:
        space: Of actions.
        whose: What to call it in messages.

    Raises:
        ValueError: If it is of another kind than Box and Discrete.
    """
    if isinstance(space, spaces.Discrete):
        return (0.0,) * int(space.n), (1.0,) * int(space.n)
    if isinstance(space, spaces.Box) and space.shape:
        return tuple(map(float, space.low.flat)), tuple(map(float, space.high.flat))
    raise ValueError(
        f"{whose} has actions {space}; supported are Box, at least one-dimensional, and Discrete. "
        "gymnasium.wrappers.TransformAction makes one of the other"
    )


def action_vectors(space: Space, actions: NDArray[Any]) -> NDArray[np.float32]:
    """Actions (T, ...) as a network takes them, float32 (T, A): flat, a discrete one as one-hot."""
    actions = np.asarray(actions)
    if isinstance(space, spaces.Discrete):
        return np.eye(int(space.n), dtype=np.float32)[actions.reshape(-1).astype(np.int64) - int(space.start)]
    return actions.astype(np.float32).reshape(len(actions), -1)


def own_actions(space: Space, vectors: NDArray[Any]) -> NDArray[Any]:
    """The inverse of `action_vectors`; of one-hots that are not quite, the greatest counts."""
    if isinstance(space, spaces.Discrete):
        return np.asarray(vectors).argmax(axis=-1).astype(np.int64) + int(space.start)
    assert isinstance(space, spaces.Box)
    return np.asarray(vectors, space.dtype).reshape(-1, *space.shape)


@dataclass(frozen=True)
class Leaf:
    """A Box among observations.

    Attributes:
        keys: Where it is: the keys of nested dicts that lead to it.
        space: It.
        place: Which components of the vector it is.
    """

    keys: tuple[str, ...]
    space: spaces.Box
    place: slice


class Layout:
    """Which component of a vector (D,) is what of an observation without its picture.

    Args:
        space: Box, or Dict of Boxes, nested or not.
        whose: What to call it in messages.

    Attributes:
        leaves: In the order of the space.
        size: D.
        bounds: Least and greatest values, float32 (2, D).

    Raises:
        ValueError: If there is something else in it.
    """

    def __init__(self, space: Space, whose: str):
        self.leaves: list[Leaf] = []
        self.size = 0
        for keys, box in _boxes(space, whose):
            count = int(np.prod(box.shape))
            self.leaves.append(Leaf(keys, box, slice(self.size, self.size + count)))
            self.size += count
        bounds = [np.concatenate([getattr(leaf.space, end).ravel() for leaf in self.leaves]) for end in ("low", "high")]
        self.bounds: NDArray[np.float32] = np.stack(bounds).astype(np.float32)

    @property
    def names(self) -> list[str]:
        """Of all components: "2" of a single Box, "achieved_goal/0" of a Dict."""
        counts = [(leaf.keys, leaf.place.stop - leaf.place.start) for leaf in self.leaves]
        return ["/".join([*keys, str(number)]) for keys, count in counts for number in range(count)]

    def vectors(self, observations: Any) -> NDArray[np.float32]:
        """Observations with a first axis of T as vectors, float32 (T, D)."""
        parts = [_at(observations, leaf.keys) for leaf in self.leaves]
        return np.concatenate([np.asarray(part, np.float32).reshape(len(part), -1) for part in parts], axis=1)

    def observations(self, vectors: Tensor) -> Any:
        """The inverse, in tensors: (B, D), within the bounds, to observations with a first axis of B."""
        found: dict[str, Any] = {}
        for leaf in self.leaves:
            value = vectors[:, leaf.place].unflatten(1, leaf.space.shape)
            value = (value if leaf.space.dtype.kind == "f" else value.round()).to(torch_type(leaf.space.dtype))
            if not leaf.keys:
                return value
            put_in(found, leaf.keys, value)
        return found


def torch_type(dtype: Any) -> torch.dtype:
    """PyTorch's type for one of NumPy's."""
    return torch.from_numpy(np.empty(0, dtype)).dtype


def _boxes(space: Space, whose: str, keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], spaces.Box]]:
    if isinstance(space, spaces.Dict):
        for key, inner in space.spaces.items():
            yield from _boxes(inner, whose, (*keys, key))
    elif isinstance(space, spaces.Box) and space.shape:
        yield keys, space
    else:
        raise ValueError(
            f"{whose} observes {space}{f' as {keys[-1]!r}' if keys else ''}; supported are a Box, at least "
            "one-dimensional, and a Dict of such. gymnasium.wrappers.FlattenObservation makes one of most others"
        )


def _at(tree: Any, keys: tuple[str, ...]) -> Any:
    for key in keys:
        tree = tree[key]
    return tree


def put_in(tree: dict[str, Any], keys: tuple[str, ...], value: Any) -> None:
    """Put a value into nested dicts."""
    for key in keys[:-1]:
        tree = tree.setdefault(key, {})
    tree[keys[-1]] = value


def stacked(rows: Sequence[Any]) -> Any:
    """Nested dicts of values as nested dicts of arrays, with a first axis of so many rows."""
    if isinstance(rows[0], dict):
        return {key: stacked([row[key] for row in rows]) for key in rows[0]}
    return np.stack([np.asarray(row) for row in rows])
