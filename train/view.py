"""How is a dataset, bundle or recording looked at? `cosmos-wm view WHAT --out x.rrd` puts it on Rerun's timeline."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cosmos_isaac_wm.data import EpisodeDataset
from cosmos_isaac_wm.perception import BundleError
from cosmos_isaac_wm.reporting.log import CSV_NAME, STATES_NAME
from cosmos_isaac_wm.reporting.view import Shown, rerun, show, write_rrd
from cosmos_isaac_wm.reporting.viewed import of_dream, of_episode, of_recording
from cosmos_isaac_wm.storage.paths import user_path
from cosmos_isaac_wm.train import cli
from cosmos_isaac_wm.world_model import WorldModel

_SHOWN = 3  # episodes, where nobody asks for others


@dataclass(frozen=True)
class View:
    """Put episodes on the timeline of Rerun's viewer: of a dataset, of a bundle with its dreams, or of a recording.

    Real and dreamed pictures with the tracks in them, positions or observations, actions, rewards, errors, and how far
    the dream said that it may be off. Needs `pip install 'cosmos-isaac-wm[rerun]'`.

    Attributes:
        what: A dataset folder; a bundle (a shipped name, a folder, or "hf://owner/repository"), whose held-out episodes
            are dreamed; or a folder that `cosmos-wm record` wrote.
        out: The file, which `rerun FILE` opens; "view.rrd" when not given.
        spawn: Open the viewer instead of writing a file.
        episodes: Numbers of the episodes; the first three when not given.
        data: Of a bundle: a dataset to dream the episodes of, instead of those that it ships.
        device: "auto", "cpu" or "cuda".
        seed: Not used; every command takes it.
    """

    what: str
    out: Path | None = None
    spawn: bool = False
    episodes: list[int] | int | None = None
    data: Path | None = None
    device: str = "auto"
    seed: int = 0

    def run(self) -> dict[str, float]:
        """Look at it; how many episodes, pictures and curves there are."""
        rerun()  # which may not be installed
        if self.spawn and self.out is not None:
            raise ValueError("--spawn shows in the viewer, --out writes a file; give one of them")
        shown = self._shown()
        if self.spawn:
            show(shown)
        else:
            out = Path("view.rrd") if self.out is None else self.out
            write_rrd(out, shown)
            print(f"{', '.join(each.name for each in shown)} in {out}: open it with `rerun {out}`")
        return {
            "episodes": float(len(shown)),
            "pictures": float(sum(len(frames) for each in shown for _, frames in each.pictures.values())),
            "curves": float(sum(len(each.curves) for each in shown)),
        }

    def _shown(self) -> list[Shown]:
        folder = user_path(self.what)
        is_bundle = (folder / "config.yaml").is_file() or not folder.is_dir()
        if self.data is not None and not is_bundle:
            raise ValueError(f"--data is for a bundle to dream, and {folder} is none")
        if is_bundle:
            model = WorldModel.load(self.what, self.device)
            dataset = model.held_out() if self.data is None else EpisodeDataset(self.data)
            return [of_dream(model, dataset, number) for number in self._numbers(len(dataset))]
        if any((folder / name).is_file() for name in (CSV_NAME, STATES_NAME)):
            recorded = of_recording(folder)
            wanted = {f"episode_{number}" for number in self._given or []}
            if missing := sorted(wanted - {each.name for each in recorded}):
                raise ValueError(f"{folder} has logged {[each.name for each in recorded]}, not {missing[0]}")
            return [each for each in recorded if not wanted or each.name in wanted]
        if not (folder / "data").is_dir() and not (folder / "metadata.json").is_file():
            raise BundleError(
                f"{folder} is no dataset (data/metadata.json), no bundle (config.yaml) and no recording ({CSV_NAME} or "
                f"{STATES_NAME})"
            )
        dataset = EpisodeDataset(folder)
        return [of_episode(dataset, number) for number in self._numbers(len(dataset))]

    @property
    def _given(self) -> list[int] | None:
        return [self.episodes] if isinstance(self.episodes, int) else self.episodes

    def _numbers(self, count: int) -> list[int]:
        """Which episodes of so many."""
        return list(range(min(_SHOWN, count))) if self._given is None else list(dict.fromkeys(self._given))


def main(argv: Sequence[str] | None = None) -> int:
    """The `cosmos-wm view` command; what to look at may stand first, without `--what`."""
    return cli.run(View, "view", cli.first_as("--what", argv))


if __name__ == "__main__":
    sys.exit(main())
