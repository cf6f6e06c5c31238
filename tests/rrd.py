"""What is in a file that Rerun's viewer opens? Asked of Rerun's own reader."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

needs_rerun = pytest.mark.skipif(
    find_spec("rerun") is None,
    reason="Rerun is not installed: pip install 'cosmos-isaac-wm[rerun]'",
)


def entities(path: Path) -> dict[str, list[Any]]:
    """Record batches by path of the entity, of the recording alone."""
    from rerun.chunk import RrdReader

    found: dict[str, list[Any]] = {}
    for chunk in RrdReader(path).store().stream().to_chunks():
        found.setdefault(chunk.entity_path.removeprefix("/"), []).append(chunk.to_record_batch())
    return found


def curve(path: Path, entity: str) -> dict[int, float]:
    """A curve's values by frame."""
    values: dict[int, float] = {}
    for batch in entities(path)[entity]:
        frames = batch.column("frame").to_pylist()
        values |= dict(zip(frames, np.ravel(batch.column("Scalars:scalars").to_pylist()).tolist(), strict=True))
    return values


def frames_of(path: Path, entity: str) -> list[int]:
    """The frames at which something is logged."""
    return sorted(frame for batch in entities(path)[entity] for frame in batch.column("frame").to_pylist())
