"""How is the table played in a dream and in its simulator at once? From a stored state, with the gap logged."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from ..borders import array_of, integer
from ..evaluation import Evaluation
from ..evaluation.baselines import floor_errors, restarted
from ..evaluation.ground_truth import Floats, Reference, detect_all, hold_from_centre, with_baselines
from ..evaluation.open_loop import OpenLoop
from ..evaluation.perception_metrics import decode_frames, perception_figures
from ..protocols import RestartableSimulator
from ..worlds import DreamEnvironment, RealEnvironment
from .figures import Footage
from .lockstep_pair import Begun, Outcome, Pair
from .log import CSV_NAME, REWARD_COLUMNS, append_row, write_csv
from .recording import Recording
from .report import write_outputs


class TablePair(Pair[RealEnvironment]):
    """A dream of the table and its simulator; arguments as of `Pair`.

    Raises:
        ValueError: If the scene has nothing to track.
    """

    def __init__(
        self,
        dream: gym.Env[Any, Any],
        real: gym.Env[Any, Any],
        dreaming: DreamEnvironment,
        acting: RealEnvironment,
    ):
        super().__init__(dream, real, dreaming, acting)
        if not self.world_model.scene.markers:
            raise ValueError(f"the scene {self.world_model.scene.name!r} has no markers, so there is nothing to log")
        self._tracks: list[OpenLoop] = []
        self._best: Footage | None = None
        self._worst: Footage | None = None
        self._actions: list[NDArray[np.float32]] = []
        self._start = 0

    def open(self, out: Path) -> None:
        """Begin the log in a folder."""
        self.out = out
        write_csv(self.out / CSV_NAME, [], REWARD_COLUMNS)

    def begin(self, rng: np.random.Generator, seed: int | None, options: dict[str, Any]) -> tuple[Begun, Begun]:
        """Reset both to the state of a stored context; what each observes.

        Raises:
            ValueError: If no stored context has a simulator state.
        """
        contexts, kind = self.world_model.contexts, self._acting.kind
        known = (~contexts.states.isnan()).any(dim=1).numpy()
        known &= np.array([kind in (None, own) for own in contexts.kinds])
        for key, held in (("episode", contexts.episodes), ("start", contexts.starts)):
            if (wanted := options.pop(key, None)) is not None:
                known &= held.numpy() == integer(wanted, key)
        if not known.any():
            raise ValueError("the bundle stores no such context with a simulator state, so both cannot start alike")
        self._start = int(rng.choice(np.flatnonzero(known)))
        where = {"episode": int(contexts.episodes[self._start]), "start": int(contexts.starts[self._start])}
        seed = int(rng.integers(2**31)) if seed is None else seed  # of the goal, which both share
        dreamed = self._dream.reset(seed=seed, options={**options, **where})
        goal = {"goal": dreamed[1]["goal"]} if "goal" in dreamed[1] else {}
        real = self._real.reset(seed=seed, options={**where, **goal})
        self._actions = []
        self._number += 1
        start_px = hold_from_centre(self._detected(), self.world_model.scene)[0]
        self._recording = Recording(self.world_model, self._number, str(contexts.kinds[self._start]), start_px)
        return dreamed, real

    def add(
        self, action: Any, dreamed: Outcome, real: Outcome, dream_reward: float, real_reward: float
    ) -> dict[str, float]:
        """Log a step of both; the metres between dreamed and true object."""
        recording, names = self._recording, self.world_model.scene.marker_names
        true_m = np.stack([np.broadcast_to(real[4].get(f"{name}_position", np.nan), 2) for name in names])
        true_m = true_m.astype(np.float64)
        recording.add(self._dreaming.context[-1], self._acting.frame, self._detected()[0], true_m)
        self._actions.append(array_of(action, "action", np.float32))
        cells = ["" if np.isnan(reward) else f"{reward:.5g}" for reward in (dream_reward, real_reward)]
        append_row(self.out / CSV_NAME, [*recording.row(), *cells])
        return {"gap_m": float(np.linalg.norm(recording.track.dream_m[-1, 0] - true_m[0]))}

    def finish(self) -> None:
        """Measure the episode that has ended, and write everything about all so far."""
        model, recording = self.world_model, self._recording
        track = recording.track
        true_m = track.reference.true_m
        unknown = np.full(true_m.shape, np.nan, np.float32)  # how anything was turned was not recorded
        figures = perception_figures(model, recording.frames, true_m, unknown)
        title = f"{recording.kind}: live episode {recording.number}"
        newest = recording.footage(title, self._truth(track.reference), figures)
        self._tracks.append(newest.track)
        self._best = newest if self._best is None or _off(newest) < _off(self._best) else self._best
        self._worst = newest if self._worst is None or _off(newest) > _off(self._worst) else self._worst
        longest = max(len(each.dream_px) for each in self._tracks)
        self.evaluation = Evaluation(model.scene, longest, tuple(self._tracks), first=model.dynamics.context_length)
        shown = {clip.track.number: clip for clip in (self._best, self._worst, newest)}
        write_outputs(self.out, self.evaluation, list(shown.values()))

    def _detected(self) -> Floats:
        """Where the markers are found in the simulator's newest picture, px at 512, (1, N, 2)."""
        return detect_all(self._acting.frame[None], self.world_model.scene)

    def _truth(self, seen: Reference) -> Reference:
        """What was true of the episode, with the baselines."""
        model, contexts, start = self.world_model, self.world_model.contexts, self._start
        pictures = decode_frames(model, contexts.latents[start].float().to(model.device))  # the real ones are not kept
        context_px = hold_from_centre(detect_all(pictures, model.scene), model.scene)
        simulator, floor = self._acting.simulator, None
        if isinstance(simulator, RestartableSimulator) and model.scene.camera is not None:
            end, state = simulator.get_state(), contexts.states[start].numpy()
            noise = np.random.default_rng(self._number)
            tracks = restarted(simulator, state[~np.isnan(state)], np.stack(self._actions), noise)
            floor = floor_errors(model.scene, tracks, seen.true_m)
            simulator.set_state(end)  # which the floor has moved
        truth = with_baselines(model.scene, context_px, seen.true_px, seen.true_m, floor)
        return dataclasses.replace(truth, start_px=seen.start_px)


def _off(clip: Footage) -> float:
    """How far a dream is from reality, px; infinitely, where nothing could be compared."""
    return float(np.nan_to_num(clip.track.rmse_px(), nan=np.inf))
