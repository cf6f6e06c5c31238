"""Where do demonstrations go? Each into a file as soon as it is over, and all into a Minari dataset at the end."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from ..data.collection import Job, packed, unpacked
from ..data.dataset import EpisodeDataset
from ..data.episodes import DatasetError, Episode
from ..data.writing import write_dataset
from ..scene import Scene
from ..storage.atomic import replacing_folder, write
from ..storage.checkpoint import must_be_whole
from ..storage.lock import claim, holding
from ..storage.paths import user_path

_EPISODES = "demonstrations"  # folder of the files, which stay: more can be played later
_EVERY = 10  # episodes: the ninth of them validates and the tenth tests, and none changes its split when more come


@dataclass(frozen=True)
class Source:
    """What demonstrations are of.

    Attributes:
        scene: That they were played in.
        world_model: Fingerprint of the bundle.
        pictures: Whose they are, "dream" or "real".
        kind: Of the episodes.
    """

    scene: Scene
    world_model: str
    pictures: str
    kind: str = "episode"

    @property
    def metadata(self) -> dict[str, Any]:
        """What the dataset says of its origin."""
        return {"simulator": self.pictures, "world_model": self.world_model, "kind": self.kind}


class Demonstrations:
    """A folder of demonstrations; a context manager, which holds the folder and writes the dataset when it ends.

    Args:
        out: The folder; one of an earlier recording of the same source goes on.
        source: What they are of.

    Raises:
        FileExistsError: If the folder holds a dataset of another origin.
        DatasetError: If its demonstrations are of another bundle, or of other pictures.
        InUse: If another process works there.
    """

    def __init__(self, out: str | os.PathLike[str], source: Source):
        self.out, self.source = user_path(out), source
        self._folder = self.out / _EPISODES
        self._held = ExitStack()
        self._written = 0  # episodes in the dataset

    def __enter__(self) -> Demonstrations:
        self._held.enter_context(holding(self.out))
        with self._held:  # let go if the folder is not ours
            bound = self.out / "recording.json"
            if (self.out / "data").exists() and not bound.exists():
                raise FileExistsError(
                    f"{self.out} already holds a dataset, which was not played there; choose another --out"
                )
            claim(bound, {"scene": self.source.scene.to_dict(), **self.source.metadata}, error=DatasetError)
            self._folder.mkdir(exist_ok=True)
            self._written = self._in_dataset()
            self._held = self._held.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        with self._held:
            self.write()

    def __len__(self) -> int:
        return len(self._files())

    def add(self, episode: Episode) -> int:
        """Keep a demonstration; how many there are now.

        Raises:
            OSError: If the disk is full.
        """
        number = max(map(_number, self._files()), default=-1) + 1
        write(self._folder / f"episode_{number:06d}_{episode.seed}.npz", packed(episode))
        return len(self)

    def write(self) -> Path | None:
        """Write all of them as a dataset, in place of the one that there was; None where there is nothing new.

        Raises:
            DatasetError: If a file is damaged.
            OSError: If the disk is full; the demonstrations stay, and the same command writes them.
        """
        files = self._files()
        if not files or (len(files) == self._written and (self.out / "data").exists()):
            return None
        staged = self.out / "unfinished"
        shutil.rmtree(staged, ignore_errors=True)
        try:
            splits = [_split(_number(path)) for path in files]
            write_dataset(staged, self._episodes(files), self.source.scene, splits, self.source.metadata)
            with replacing_folder(self.out / "data") as fresh:
                for part in (staged / "data").iterdir():
                    part.rename(fresh / part.name)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        self._written = len(files)
        return self.out

    def _in_dataset(self) -> int:
        """Episodes of the dataset that is there; none, where it is damaged and has to be written again."""
        try:
            return len(EpisodeDataset(self.out)) if (self.out / "data").exists() else 0
        except DatasetError:
            return 0

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("episode_*.npz"))

    def _episodes(self, files: list[Path]) -> Iterator[Episode]:
        for path in files:
            try:
                must_be_whole(path)
                seed = int(path.stem.split("_")[2])
                yield unpacked(path, Job(_number(path), self.source.kind, seed, 0))
            except (ValueError, KeyError, IndexError) as error:
                raise DatasetError(f"{path} is damaged ({error}): delete it and run the same command again") from error


def _number(path: Path) -> int:
    return int(path.stem.split("_")[1])


def _split(number: int) -> str:
    """Of a demonstration: nothing is drawn, so that it stays the same when more are played."""
    return {_EVERY - 2: "val", _EVERY - 1: "test"}.get(number % _EVERY, "train")
