"""Was this imported before? A folder is bound to what it was imported from, and a finished one is left as it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ...scene import Scene
from ...storage.lock import claim
from ..episodes import Episode
from ..writing import write_dataset


def import_once(
    out: Path,
    episodes: Iterable[Episode],
    scene: Scene,
    splits: Sequence[str],
    metadata: dict[str, Any],
    settings: dict[str, Any],
) -> bool:
    """Write what others have recorded as a dataset; False if that was finished before.

    Args:
        out: Folder of the dataset.
        episodes: As many as splits.
        scene: What they are of.
        splits: Of every episode.
        metadata: For the dataset.
        settings: What else must be the same for it to be the same dataset.

    Raises:
        FileExistsError: If another dataset is there, or one that was imported otherwise.
    """
    bound = out / "import.json"
    there = (out / "data").exists()
    if there and not bound.exists():
        raise FileExistsError(f"{out} already holds a dataset, which was not imported there; choose another")
    claim(bound, {"scene": scene.to_dict(), **settings, **metadata})
    if not there:
        write_dataset(out, tqdm(episodes, total=len(splits), desc="import", unit="episode"), scene, splits, metadata)
    return not there
