"""How does an interrupted training go on? Everything its loop needs is in one file that is always whole."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import Any, Protocol

import torch

from .atomic import write
from .structured import one_line

SAVED_EVERY = float(os.environ.get("COSMOS_WM_CHECKPOINT_SECONDS", "60"))  # quick ones are for tests of interruptions


class Stateful(Protocol):
    """What a checkpoint can hold."""

    def state_dict(self) -> dict[str, Any]:
        """Its state."""

    def load_state_dict(self, state_dict: dict[str, Any], /) -> object:
        """Take over a state."""


class Checkpoint:
    """Saves and restores the states of named objects and a few plain values.

    Args:
        path: The file. It is written under a temporary name and renamed, and read without unpickling code.
        parts: Modules, optimisers, schedules: anything with `state_dict` and `load_state_dict`.
    """

    def __init__(self, path: Path, **parts: Stateful):
        self.path = path
        self._parts = parts

    def save(self, **values: Any) -> None:
        """Write the parts' states and the values."""
        state = {"values": values, **{name: part.state_dict() for name, part in self._parts.items()}}
        content = io.BytesIO()  # a full disk then is told from a full memory
        torch.save(state, content)
        write(self.path, content.getvalue())

    def load(self) -> dict[str, Any]:
        """Restore the parts and return the values; an empty dict where there is no checkpoint yet.

        Raises:
            ValueError: If the file is damaged or belongs to another configuration.
        """
        if not self.path.exists() and not self.path.is_symlink():
            return {}
        try:
            must_be_whole(self.path)
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            for name, part in self._parts.items():
                part.load_state_dict(state[name])
        except Exception as error:
            raise ValueError(
                f"{self.path} cannot be continued ({one_line(error)}); it is damaged or of another configuration. "
                "Repeat the command that made it, or delete the file to start afresh."
            ) from error
        return dict(state["values"])


def must_be_whole(path: Path) -> None:
    """Hold a zip file, as checkpoints are, to its checksums, which PyTorch does not look at.

    Raises:
        ValueError: If it is damaged.
    """
    if not path.is_file():
        raise ValueError(f"{path.name} is no regular file")
    try:
        with zipfile.ZipFile(path) as archive:
            broken, members = archive.testzip(), len(archive.infolist())
        with path.open("rb") as file:  # the record that ends it says how many; a damaged directory hides some
            file.seek(-12, os.SEEK_END)
            told = int.from_bytes(file.read(2), "little")
        if told not in (members, 2**16 - 1):  # the latter: more, or said elsewhere
            raise ValueError(f"it has {members} of {told} members")
    except Exception as error:  # whatever zip files make Python raise
        raise ValueError(f"{path.name} is truncated or damaged: {error}") from error
    if broken is not None:
        raise ValueError(f"{path.name} is damaged in {broken}")
