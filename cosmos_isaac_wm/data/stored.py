"""What do the arrays of a Minari dataset hold? Its actions without the pictures beside them, the picture, headings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from gymnasium.spaces import Box, Space
from gymnasium.spaces import Dict as DictSpace
from minari.dataset.minari_storage import MinariStorage
from numpy.typing import NDArray

from ..borders import how_to_convert
from .episodes import DatasetError


def read_actions(storage: MinariStorage, lengths: Sequence[int], dim: int, path: Path) -> list[NDArray[np.float32]]:
    """The actions of every episode, (T, A) each.

    Args:
        storage: The dataset's.
        lengths: T of each episode.
        dim: A.
        path: Of the dataset, for messages.

    Raises:
        DatasetError: If some cannot be learned from: damaged, of another shape, or not finite.
    """
    file = storage.data_path / "main_data.hdf5"
    try:
        if file.is_file():  # without the pictures beside them
            with h5py.File(file, "r") as groups:
                found = [np.asarray(groups[f"episode_{index}/actions"]) for index in range(len(lengths))]
        else:
            found = [np.asarray(data["actions"]) for data in storage.get_episodes(range(len(lengths)))]
    except (OSError, KeyError, TypeError) as error:
        raise DatasetError(f"the actions of {path} are damaged, or are no arrays: {error}") from error
    for index, (values, length) in enumerate(zip(found, lengths, strict=True)):
        if values.shape != (length, dim) and not (dim == 1 and values.shape == (length,)):
            raise DatasetError(
                f"episode {index} of {path} has actions of shape {values.shape}; expected {(length, dim)}"
            )
        if len(bad := np.argwhere(~np.isfinite(values))):
            raise DatasetError(
                f"episode {index} of {path} has an action that is not finite, at step {bad[0][0]}: repair it, or write "
                "the dataset again without it"
            )
    return [np.asarray(values, np.float32).reshape(-1, dim) for values in found]


def heading(poses: NDArray[Any]) -> NDArray[np.float32]:
    """Angle about the vertical, (T,), of poses (x, y, z, qw, qx, qy, qz), (T, 7)."""
    w, x, y, z = np.asarray(poses, dtype=np.float64)[:, 3:].T
    return np.arctan2(2 * (w * z + x * y), 1 - 2 * (y**2 + z**2)).astype(np.float32)


def image_space(space: Space[Any], path: Path) -> tuple[str | None, Box]:
    """The picture among the observations: (key or None, its Box)."""
    candidates = dict(space.spaces) if isinstance(space, DictSpace) else {None: space}
    for key, box in candidates.items():
        if isinstance(box, Box) and box.dtype == np.uint8 and len(box.shape) == 3 and box.shape[-1] == 3:
            return key, box
    advice = next(
        (
            how_to_convert(box.dtype, box.shape)
            for box in candidates.values()
            if isinstance(box, Box) and len(box.shape) == 3
        ),
        "",
    )
    raise DatasetError(
        f"{path} has no pictures: expected a uint8 observation of shape (H, W, 3), found {space}{advice}"
    )
