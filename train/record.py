"""What was dreamed of one episode, step by step? `cosmos-wm record --episode 3 --out DIR` logs it beside the truth."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from cosmos_isaac_wm.data import DatasetError, EpisodeDataset
from cosmos_isaac_wm.evaluation import Evaluation
from cosmos_isaac_wm.evaluation.baselines import simulator_unless_told
from cosmos_isaac_wm.evaluation.open_loop import first_dreamed
from cosmos_isaac_wm.reporting.replay import DreamRecorder
from cosmos_isaac_wm.reporting.table import error_table
from cosmos_isaac_wm.storage.atomic import write_json
from cosmos_isaac_wm.storage.structured import read
from cosmos_isaac_wm.train import cli
from cosmos_isaac_wm.world_model import WorldModel


@dataclass(frozen=True)
class Record:
    """Replay one episode in CosmosDream-v0 and log it against the truth; a finished recording is not redone.

    Attributes:
        episode: Number of the episode in the dataset.
        out: Folder to write to, one recording each.
        world_model: A shipped bundle's name, a folder, or "hf://owner/repository".
        data: A dataset; the bundle's shipped held-out episodes when not given.
        seed: Seed of the environment; a replay does not depend on it.
        device: "auto", "cpu" or "cuda".
    """

    episode: int
    out: Path
    world_model: str = "default"
    data: Path | None = None
    seed: int = 0
    device: str = "auto"

    def run(self) -> dict[str, float]:
        """Replay and log the episode, unless that was done before; its figures."""
        model = WorldModel.load(self.world_model, self.device)
        dataset = model.held_out() if self.data is None else EpisodeDataset(self.data)
        if not 0 <= self.episode < len(dataset):
            raise DatasetError(f"{dataset.path} has episodes 0 to {len(dataset) - 1}, not {self.episode}")
        recorded = {"episode": self.episode, "world_model": model.fingerprint(), "data": dataset.fingerprint()}
        finished = self.out / "recording.json"  # written last
        if finished.is_file():
            if read(finished, dict[str, Any]) != recorded:
                raise ValueError(f"{self.out} holds a recording of another episode or bundle; choose another --out")
            cli.going_on(f"the finished recording in {self.out}")
            return read(self.out / "metrics.json", dict[str, float])
        evaluation = self._replayed(model, dataset)
        write_json(finished, recorded)
        print(f"{error_table(evaluation)}\n\nrecorded in {self.out.resolve()}")
        return evaluation.numbers()

    def _replayed(self, model: WorldModel, dataset: EpisodeDataset) -> Evaluation:
        """Dream the episode in the environment, beside its truth."""
        chosen = dataset[self.episode]
        # Without positions in the data the dream has no reward of its own, and a replay needs none.
        knows = model.perception.readout is not None or model.perception.heads is not None
        reward = None if knows else lambda outcome: np.zeros(len(outcome.latents))
        env = gym.make("cosmos_isaac_wm:CosmosDream-v0", world_model=model, obs_type="latent", reward_fn=reward)
        simulator = simulator_unless_told(dataset.metadata, chosen, model.scene, first_dreamed(model) - 1)
        return DreamRecorder(env, chosen, self.out, self.episode, simulator).replay(self.seed)


def main(argv: Sequence[str] | None = None) -> int:
    """The `cosmos-wm record` command."""
    return cli.run(Record, "record", argv)


if __name__ == "__main__":
    sys.exit(main())
