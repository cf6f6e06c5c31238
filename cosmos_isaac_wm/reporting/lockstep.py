"""How does an agent act in the dream and in the real simulator at once? In lockstep, from the same state, logged.

env = LockstepRecorder(gym.make("CosmosDream-v0"), gym.make("CosmosReal-v0"), "out")
evaluate_policy(agent, env, n_eval_episodes=3)
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any, SupportsFloat

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
from ..storage.paths import user_path
from ..worlds import DreamEnvironment, RealEnvironment
from .figures import Footage
from .log import CSV_NAME, REWARD_COLUMNS, append_row, write_csv
from .recording import Recording
from .report import write_outputs


class LockstepRecorder(gym.Wrapper[Any, NDArray[np.float32], Any, NDArray[np.float32]]):
    """Plays an episode in the dream and in the real simulator at once: same state, same goal, same live actions.

    To its agent it is one of the two environments, whose observations, rewards and ends it hands on. When an episode
    ends, the same metrics and pictures as of a replay are written: metrics and error curves of all episodes so far,
    tracks and video of the best, the worst and the newest one, so that no end takes longer than another.

    Args:
        dream: `CosmosDream-v0`.
        real: `CosmosReal-v0` with the same bundle's eyes.
        out: Folder of the log and the pictures; what it holds of an earlier recording is replaced.
        sees: What the agent acts on: "dream" or "real".
        seed: Of the starts, where `reset` is given none.

    Attributes:
        evaluation: Of the episodes that have ended; None before the first end.

    Raises:
        ValueError: If these are no such environments, they see with different eyes, or the scene has nothing to track.
    """

    def __init__(
        self,
        dream: gym.Env[Any, NDArray[np.float32]],
        real: gym.Env[Any, NDArray[np.float32]],
        out: str | os.PathLike[str],
        sees: str = "dream",
        seed: int | None = None,
    ):
        if sees not in ("dream", "real"):
            raise ValueError(f"unknown sees {sees!r}; expected 'dream' or 'real'")
        super().__init__(dream if sees == "dream" else real)
        self._dream, self._real, self._sees, self.out = dream, real, sees, user_path(out)
        self._dreaming, self._simulating = _both(dream, real)
        self.world_model = self._dreaming.world_model
        self._rng = np.random.default_rng(seed)
        self._tracks: list[OpenLoop] = []
        self._best: Footage | None = None
        self._worst: Footage | None = None
        self._number = -1
        self._recording: Recording | None = None  # of the episode that goes on
        self._actions: list[NDArray[np.float32]] = []
        self._start = 0
        self._other_ended = False
        self.evaluation: Evaluation | None = None
        write_csv(self.out / CSV_NAME, [], REWARD_COLUMNS)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start both from the state that is stored with one of the bundle's contexts.

        Args:
            seed: Of context and goal.
            options: "episode" and "start" of a context, or "goal".

        Raises:
            ValueError: If no stored context has a simulator state.
        """
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        options = dict(options or {})
        contexts, kind = self.world_model.contexts, self._simulating.kind
        known = (~contexts.states.isnan()).any(dim=1).numpy()
        known &= np.array([kind in (None, own) for own in contexts.kinds])
        for key, held in (("episode", contexts.episodes), ("start", contexts.starts)):
            if (wanted := options.pop(key, None)) is not None:
                known &= held.numpy() == integer(wanted, key)
        if not known.any():
            raise ValueError("the bundle stores no such context with a simulator state, so both cannot start alike")
        self._start = int(self._rng.choice(np.flatnonzero(known)))
        where = {"episode": int(contexts.episodes[self._start]), "start": int(contexts.starts[self._start])}
        seed = int(self._rng.integers(2**31)) if seed is None else seed  # of the goal, which both share
        dreamed = self._dream.reset(seed=seed, options={**options, **where})
        goal = {"goal": dreamed[1]["goal"]} if "goal" in dreamed[1] else {}
        real = self._real.reset(seed=seed, options={**where, **goal})
        self._actions, self._other_ended = [], False
        self._number += 1
        start_px = hold_from_centre(self._detected(), self.world_model.scene)[0]
        self._recording = Recording(self.world_model, self._number, str(contexts.kinds[self._start]), start_px)
        return dreamed if self._sees == "dream" else real

    def step(self, action: NDArray[np.float32]) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """One step of both, logged.

        Returns:
            Of the environment that the agent sees; its info has the other one's reward as "other_reward", NaN after its
            end, and "gap_m", the metres between dreamed and true object.
        """
        recording = self._recording
        if recording is None:
            raise gym.error.ResetNeeded("call reset() before the first step and after an episode's end")
        action = array_of(action, "action", np.float32)
        dreamed, real = self._dream.step(action), self._real.step(action)
        names = self.world_model.scene.marker_names
        true_m = np.stack([np.broadcast_to(real[4].get(f"{name}_position", np.nan), 2) for name in names])
        true_m = true_m.astype(np.float64)
        recording.add(self._dreaming.context[-1], self._simulating.frame, self._detected()[0], true_m)
        self._actions.append(action)
        seen, other = (dreamed, real) if self._sees == "dream" else (real, dreamed)
        paid, other_paid = float(seen[1]), np.nan if self._other_ended else float(other[1])  # nothing after its end
        self._other_ended |= other[2] or other[3]
        rewards = (paid, other_paid) if self._sees == "dream" else (other_paid, paid)
        cells = ["" if np.isnan(reward) else f"{reward:.5g}" for reward in rewards]
        append_row(self.out / CSV_NAME, [*recording.row(), *cells])
        gap = float(np.linalg.norm(recording.track.dream_m[-1, 0] - true_m[0]))
        observation, reward, terminated, truncated, info = seen
        if terminated or truncated:
            self._finish(recording)
        return observation, reward, terminated, truncated, info | {"other_reward": other_paid, "gap_m": gap}

    def close(self) -> None:
        """Close both environments."""
        self._dream.close()
        self._real.close()

    def _detected(self) -> Floats:
        """Where the markers are found in the simulator's newest picture, px at 512, (1, N, 2)."""
        return detect_all(self._simulating.frame[None], self.world_model.scene)

    def _finish(self, recording: Recording) -> None:
        """Measure the episode that has ended, and write everything about all so far."""
        model, track = self.world_model, recording.track
        true_m = track.reference.true_m
        unknown = np.full(true_m.shape, np.nan, np.float32)  # how anything was turned was not recorded
        figures = perception_figures(model, recording.frames, true_m, unknown)
        title = f"{recording.kind}: live episode {recording.number}"
        newest = recording.footage(title, self._truth(track.reference), figures)
        self._recording = None
        self._tracks.append(newest.track)
        self._best = newest if self._best is None or _off(newest) < _off(self._best) else self._best
        self._worst = newest if self._worst is None or _off(newest) > _off(self._worst) else self._worst
        longest = max(len(each.dream_px) for each in self._tracks)
        self.evaluation = Evaluation(model.scene, longest, tuple(self._tracks), first=model.dynamics.context_length)
        shown = {clip.track.number: clip for clip in (self._best, self._worst, newest)}
        write_outputs(self.out, self.evaluation, list(shown.values()))

    def _truth(self, seen: Reference) -> Reference:
        """What was true of the episode, with the baselines."""
        model, contexts, start = self.world_model, self.world_model.contexts, self._start
        pictures = decode_frames(model, contexts.latents[start].float().to(model.device))  # the real ones are not kept
        context_px = hold_from_centre(detect_all(pictures, model.scene), model.scene)
        simulator, floor = self._simulating.simulator, None
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


def _both(dream: gym.Env[Any, Any], real: gym.Env[Any, Any]) -> tuple[DreamEnvironment, RealEnvironment]:
    """What the two environments are beneath their wrappers.

    Raises:
        ValueError: If they are not what they should be, or do not belong together.
    """
    inner, simulated = dream.unwrapped, real.unwrapped
    if not isinstance(inner, DreamEnvironment) or not isinstance(simulated, RealEnvironment):
        raise ValueError(f"expected a CosmosDream-v0 and a CosmosReal-v0, got {inner} and {simulated}")
    scene = inner.world_model.scene
    if not scene.markers:
        raise ValueError(f"the scene {scene.name!r} has no markers, so there is nothing to log")
    eyes = [each.world_model.perception.fingerprint() for each in (inner, simulated)]
    if eyes[0] != eyes[1]:
        raise ValueError(
            f"the dream's tokenizer is {eyes[0]}, the real environment looks through {eyes[1]}: "
            "make both with the same world_model"
        )
    return inner, simulated
