"""How does an Isaac Lab recording become a dataset? `cosmos-wm import-isaac FILE.hdf5 --out DIR` converts it."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cosmos_isaac_wm.data.episodes import DatasetError
from cosmos_isaac_wm.data.importers.isaac import IsaacFile, IsaacKeys
from cosmos_isaac_wm.data.importers.once import import_once
from cosmos_isaac_wm.data.splits import draw_splits
from cosmos_isaac_wm.scene import Marker, Scene
from cosmos_isaac_wm.storage.lock import holding
from cosmos_isaac_wm.train import cli


@dataclass(frozen=True)
class ImportIsaac:
    """Convert an Isaac Lab recording into a dataset that every other command reads.

    With poses and hues the dataset has tracked objects, and dreams of it know goals and rewards; without, it has
    pictures and actions, which is enough to dream.

    Attributes:
        file: The HDF5 file, as RecorderManager wrote it.
        out: Folder of the dataset.
        keys: Where in an episode the arrays lie; `--keys.frames obs/rgb --keys.poses '{"cube": "obs/cube_pose"}'`.
        name: What to call the scene.
        control_hz: Control steps per second.
        action_low: Least action per dimension; -1 when not given.
        action_high: Greatest action per dimension; 1 when not given.
        hues: Colour of each tracked object as lowest and highest hue in degrees, the manipulated one first.
        symmetries: Headings that look alike, 4 for a cube, 1 for a car, of objects whose headings shall be learned.
        agent: Which of them the actions drive.
        workspace: Least and greatest (x, y) in metres that the objects reach.
        kind: What sort of episodes they are.
        seed: Of the split into train, val and test.
    """

    file: Path
    out: Path
    keys: IsaacKeys = field(default_factory=IsaacKeys)
    name: str = "isaac"
    control_hz: float = 10.0
    action_low: list[float] | None = None
    action_high: list[float] | None = None
    hues: dict[str, tuple[float, float]] | None = None
    symmetries: dict[str, int] | None = None
    agent: str | None = None
    workspace: tuple[tuple[float, float], tuple[float, float]] | None = None
    kind: str = "episode"
    seed: int = 0

    def run(self) -> dict[str, float]:
        """Convert; how many episodes and frames."""
        self._check()
        source = IsaacFile(self.file, self.keys)
        with holding(self.out):
            return self._imported(source)

    def _imported(self, source: IsaacFile) -> dict[str, float]:
        """Convert, unless that was done before."""
        scene = self._scene(source)
        keys = dataclasses.asdict(self.keys)
        metadata = {"simulator": "imported", "source": source.fingerprint(), "keys": keys}
        count = len(source.lengths)
        splits, settings = draw_splits([self.kind] * count, self.seed), {"kind": self.kind, "seed": self.seed}
        if not import_once(self.out, source.episodes(scene, self.kind), scene, splits, metadata, settings):
            cli.going_on(f"the finished dataset {self.out}")
        source.close()
        print(f"{count} episodes of {scene.image_size} pictures and {scene.action_dim} actions in {self.out}")
        if source.left_out:
            print(f"{source.left_out} episodes that were too short to lead anywhere were left out")
        if not self.hues:
            print("no poses were asked for: dreams of this data know no goals, and need a reward_fn of your own")
        steps = sum(source.lengths.values())
        return {"episodes": float(count), "frames": float(steps + count), "left_out": float(source.left_out)}

    def _check(self) -> None:
        """Refuse tracked objects of which something is missing."""
        hues, poses = self.hues or {}, self.keys.poses
        if hues.keys() != poses.keys():
            raise ValueError(f"--hues names {sorted(hues)}, --keys.poses {sorted(poses)}: a tracked object needs both")
        if hues and self.workspace is None:
            raise ValueError(
                "tracked objects need --workspace '[[x, y], [x, y]]', the least and the greatest that they reach"
            )
        if self.agent is not None and self.agent not in hues:
            raise ValueError(f"--agent {self.agent!r} is none of the tracked objects {sorted(hues)}")
        if strangers := (self.symmetries or {}).keys() - hues.keys():
            raise ValueError(
                f"--symmetries names {sorted(strangers)}, which are none of the tracked objects {sorted(hues)}"
            )

    def _scene(self, source: IsaacFile) -> Scene:
        """What the recording shows, as far as the file and the options tell."""
        dim, symmetries = source.action_dim, self.symmetries or {}
        low, high = tuple(self.action_low or [-1.0] * dim), tuple(self.action_high or [1.0] * dim)
        if len(low) != dim or len(high) != dim:
            raise DatasetError(f"{self.file} has actions of {dim} numbers, the bounds have {len(low)} and {len(high)}")
        return Scene(
            self.name,
            self.control_hz,
            source.image_size,
            low,
            high,
            markers=tuple(
                Marker(name, hue, symmetry=symmetries.get(name, 0)) for name, hue in (self.hues or {}).items()
            ),
            agent=self.agent,
            workspace_low=self.workspace[0] if self.workspace else None,
            workspace_high=self.workspace[1] if self.workspace else None,
            episode_steps=max(source.lengths.values()),
        )


def main(argv: Sequence[str] | None = None) -> int:
    """The `cosmos-wm import-isaac` command; its file may stand first, without `--file`."""
    return cli.run(ImportIsaac, "import-isaac", cli.first_as("--file", argv))


if __name__ == "__main__":
    sys.exit(main())
