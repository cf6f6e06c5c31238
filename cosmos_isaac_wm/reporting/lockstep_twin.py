"""How are a twin and its environment played at once? From one first picture, with every observed component logged."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from ..data.episodes import Episode
from ..data.stored import layout_of, observed
from ..evaluation.perception_metrics import decode_frames
from ..spaces import stacked
from ..storage.atomic import write_json
from ..training.heads import state_figures
from ..worlds import DreamEnvironment, RealTwinEnvironment
from .lockstep_pair import Begun, Outcome, Pair
from .log import STATES_NAME, append_row, state_columns, state_row, write_csv
from .twins import FILMED, Replay, write_pictures


class TwinPair(Pair[RealTwinEnvironment]):
    """The twin of a foreign environment and that itself, which ends for both; arguments as of `Pair`.

    Raises:
        ValueError: If the environment observes nothing beside its picture.
    """

    together = True

    def __init__(
        self,
        dream: gym.Env[Any, Any],
        real: gym.Env[Any, Any],
        dreaming: DreamEnvironment,
        acting: RealTwinEnvironment,
    ):
        super().__init__(dream, real, dreaming, acting)
        model = self.world_model
        heads, layout = model.perception.heads, layout_of(model.scene)
        if heads is None or layout is None:
            raise ValueError(f"{model.scene.name} observes nothing beside its picture, so there is nothing to log")
        self._heads, self._names = heads, layout.names
        self._going_on = _Rows()
        self._read, self._true = list[NDArray[np.float32]](), list[NDArray[np.float32]]()  # of all that are over
        self._newest = deque[Replay](maxlen=FILMED)

    def open(self, out: Path) -> None:
        """Begin the log in a folder."""
        self.out = out
        write_csv(out / STATES_NAME, [], columns=state_columns(self._names))

    def begin(self, rng: np.random.Generator, seed: int | None, options: dict[str, Any]) -> tuple[Begun, Begun]:
        """Reset the environment, and begin the dream from its first picture; what each observes."""
        seed = int(rng.integers(2**31)) if seed is None else seed
        real, task = self._real.reset(seed=seed, options=options or None), self._acting.task
        goal = {"goal": task.goals[0].cpu().numpy()} if "goal" in task.reset_options else {}
        dreamed = self._dream.reset(seed=seed, options={"latents": self._acting.context.cpu().numpy(), **goal})
        self._number, self._going_on = self._number + 1, _Rows()
        return dreamed, real

    def add(
        self, action: Any, dreamed: Outcome, real: Outcome, dream_reward: float, real_reward: float
    ) -> dict[str, float]:
        """Log a step of both; how many standard deviations dreamed and true components are apart, on average."""
        model, rows, shown = self.world_model, self._going_on, self._acting.source.shown
        read = self._heads.in_units(self._dreaming.task.remembered["read"])[0].cpu().numpy()
        moment = Episode(shown.frame[None], np.zeros((0, 1), np.float32), observations=stacked([shown.rest]))
        true, outcome = observed(moment, model.scene)[0], (real_reward, dream_reward, float(real[2]), float(dreamed[2]))
        rows.true.append(true)
        rows.read.append(read)
        rows.outcomes.append(outcome)
        rows.frames.append(shown.frame)
        rows.decoded.append(decode_frames(model, self._dreaming.context[-1:])[0])
        states, time_s = list(zip(true.tolist(), read.tolist(), strict=True)), len(rows.true) / model.scene.control_hz
        append_row(self.out / STATES_NAME, state_row(self._number, len(rows.true), time_s, states, *outcome))
        return {"gap_std": float(np.abs((read - true) / self._heads.std[: len(true)].cpu().numpy()).mean())}

    def finish(self) -> None:
        """Write the metrics of all episodes so far, and pictures of the newest."""
        rows = self._going_on
        self._read += rows.read
        self._true += rows.true
        paid, foretold, ended, over = np.array(rows.outcomes, np.float64).T
        states = np.stack(rows.true), np.stack(rows.read)
        pictures = np.stack(rows.frames), np.stack(rows.decoded)
        self._newest.append(Replay(self._number, *states, paid, foretold, ended, over, *pictures))
        read, true = (torch.from_numpy(np.stack(part)) for part in (self._read, self._true))
        metrics = {"episodes": self._number + 1.0, "steps": float(len(true)), **state_figures(read, true, self._names)}
        write_json(self.out / "metrics.json", metrics)
        write_pictures(self.out, self.world_model, list(self._newest))


class _Rows:
    """Of the steps of an episode: what was true and what was read, what it came to, and pictures of both."""

    def __init__(self) -> None:
        self.true: list[NDArray[np.float32]] = []
        self.read: list[NDArray[np.float32]] = []
        self.outcomes: list[tuple[float, float, float, float]] = []
        self.frames: list[NDArray[np.uint8]] = []
        self.decoded: list[NDArray[np.uint8]] = []
