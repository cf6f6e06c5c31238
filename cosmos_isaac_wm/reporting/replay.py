"""A dream beside the truth, logged at every step: following a recorded episode, or live, in lockstep with a simulator.

    recorder = DreamRecorder(gym.make("CosmosDream-v0", max_episode_steps=97), episode, "out")
    recorder.replay()

    env = LockstepRecorder(gym.make("CosmosDream-v0"), gym.make("CosmosReal-v0"), "out")
    evaluate_policy(agent, env, n_eval_episodes=3)

Each step's row reaches `cube_positions.csv` at once, so what was logged survives whatever happens next.
"""

from __future__ import annotations

import csv
import dataclasses
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, SupportsFloat, cast

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from ..data.episodes import Episode
from ..evaluation import Evaluation
from ..evaluation.baselines import RestartableSimulator
from ..evaluation.open_loop import (
    Floats,
    OpenLoop,
    Reference,
    decode_frames,
    detect_all,
    first_dreamed,
    heading_errors,
    hold_all,
    hold_from_centre,
    locate,
    perception_figures,
    reference,
)
from ..scene import Scene
from ..storage.atomic import replacing
from ..world_model import WorldModel
from .figures import Footage, draw_error_vs_horizon, draw_trajectories, write_video
from .report import write_metrics

CSV_NAME = "cube_positions.csv"
CSV_COLUMNS = (
    "episode",
    "step",
    "time_s",
    "true_x_m",
    "true_y_m",
    "dream_x_m",
    "dream_y_m",
    "true_x_px512",
    "true_y_px512",
    "dream_x_px512",
    "dream_y_px512",
    "error_mm",
    "error_px512",
    "detected",
)


def csv_row(scene: Scene, track: OpenLoop, step: int) -> list[str]:
    """The line of dreamed step `step` = 1, 2, ..., of the first marker; unknown values are empty.

    Times are seconds since the last context frame; pixels are at 512, from the centre of the top-left pixel.
    """
    truth, row = track.reference, step - 1
    true_m, dream_m = truth.true_m[row, 0], track.dream_m[row, 0]
    true_px, dream_px = truth.true_px[row, 0], track.dream_px[row, 0]
    errors = (1000 * np.linalg.norm(dream_m - true_m), np.linalg.norm(dream_px - true_px))
    values = [step / scene.control_hz, *true_m, *dream_m, *true_px, *dream_px, *errors]
    cells = ["" if np.isnan(value) else f"{value:.5g}" for value in values]
    return [str(track.number), str(step), *cells, str(int(track.detected[row, 0]))]


def track_rows(scene: Scene, track: OpenLoop) -> list[list[str]]:
    """The lines of a whole episode; none in a scene without markers."""
    return [csv_row(scene, track, step + 1) for step in range(len(track.dream_px) if scene.markers else 0)]


def write_csv(path: str | os.PathLike[str], rows: Iterable[list[str]], more: Sequence[str] = ()) -> None:
    """Write a whole log at once; `more` are columns beyond the usual."""
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        csv.writer(file).writerows([(*CSV_COLUMNS, *more), *rows])


def write_outputs(out: str | os.PathLike[str], evaluation: Evaluation, footage: Sequence[Footage]) -> None:
    """Write what a comparison of dream and reality shows, except for the log itself.

    These are `metrics.json`, `tracking_metrics.txt`, `trajectory.png`, `error_vs_horizon.png`, `dream_vs_real.mp4`.
    """
    out = Path(out)
    write_metrics(out, evaluation)
    draw_trajectories(out / "trajectory.png", footage)
    draw_error_vs_horizon(out / "error_vs_horizon.png", evaluation)
    write_video(out / "dream_vs_real.mp4", footage, evaluation.scene.control_hz)


REWARD_COLUMNS = ("dream_reward", "real_reward")  # more columns of a lockstep log


class DreamRecorder(gym.Wrapper[Any, NDArray[np.float32], Any, NDArray[np.float32]]):
    """Makes a dream replay a recorded episode, and logs where the dreamed object is against where it really was.

    `replay()` does it all; or `reset()` and `step()` by hand, with the recorded actions. The ends that the task knows
    are ignored: a replay goes on to the end of the recorded episode, and then writes the pictures and metrics too.

    Args:
        env: `CosmosDream-v0`, or any environment whose unwrapped one has `world_model` and `context`, the newest K
            latents (K, C, h, w), and whose `reset` takes `options={"frames": ...}`.
        episode: With frames and actions; positions make the log complete.
        out: Folder of the log and the pictures; may already hold other episodes' log.
        number: What to call the episode in the log. Its earlier rows are replaced when it is replayed again.
        simulator: The episode's own, for the predictability floor; the episode may tell itself when None.

    Attributes:
        evaluation: The result, once the episode's end is reached; until then None.

    Raises:
        ValueError: If the environment is no dream or the episode is too short.
    """

    def __init__(
        self,
        env: gym.Env[Any, NDArray[np.float32]],
        episode: Episode,
        out: str | os.PathLike[str],
        number: int = 0,
        simulator: RestartableSimulator | None = None,
    ):
        super().__init__(env)
        dream: Any = env.unwrapped
        if not (hasattr(dream, "world_model") and hasattr(dream, "context")) or hasattr(dream, "simulator"):
            raise ValueError(f"DreamRecorder records dreams such as CosmosDream-v0, not {dream}")
        if not isinstance(episode, Episode):
            raise ValueError(
                f"expected an Episode, as WorldModel.load().held_out()[0] or EpisodeDataset(path)[0] are, got {episode}"
            )
        self.world_model: WorldModel = dream.world_model
        self.episode, self.number, self.out = episode, number, Path(out)
        self._first = first_dreamed(self.world_model)
        if len(episode) < self._first:
            raise ValueError(
                f"the episode has {len(episode.frames)} frames; {self._first} of context and one more are needed"
            )
        self._truth = reference(
            self.world_model.scene, episode, self._first, None, simulator, np.random.default_rng(number)
        )
        self._frames: list[NDArray[np.uint8]] = []
        self._seen: list[Floats] = []
        self._places: list[Floats] = []
        self._latents: list[torch.Tensor] = []
        self.evaluation: Evaluation | None = None

    @property
    def next_action(self) -> NDArray[np.float32]:
        """The recorded action that `step` expects next, (A,).

        Raises:
            ValueError: If the episode is at its end.
        """
        step = self._first - 1 + len(self._frames)
        if step >= len(self.episode):
            raise ValueError(f"the recorded episode {self.number} is at its end; call reset() to replay it again")
        return self.episode.actions[step]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start the dream from the episode's first frames, and its part of the log anew."""
        self._frames, self._seen, self._places, self._latents, self.evaluation = [], [], [], [], None
        path = self.out / CSV_NAME
        others: list[list[str]] = []
        if path.exists():
            with path.open(newline="") as file:
                others = [row for row in csv.reader(file) if row and row[0] not in ("episode", str(self.number))]
        write_csv(path, others)
        frames = self.episode.frames[self._first - self.world_model.dynamics.context_length : self._first]
        return self.env.reset(seed=seed, options={**(options or {}), "frames": frames})

    def step(self, action: NDArray[np.float32]) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Dream one recorded step and log it.

        Raises:
            ValueError: If `action` is not the recorded one.
        """
        if not np.allclose(action, self.next_action, atol=1e-6):
            raise ValueError(
                f"step {len(self._frames) + 1} of the replay expects the recorded action {self.next_action}, "
                f"got {action}; pass recorder.next_action"
            )
        result = self.env.step(action)
        dream: Any = self.env.unwrapped
        latent = dream.context[-1:].clone()
        self._latents.append(latent)
        self._frames.append(decode_frames(self.world_model, latent)[0])
        self._seen.append(detect_all(self._frames[-1][None], self.world_model.scene)[0])
        self._places.append(locate(self.world_model, latent)[0])
        track = self._track()
        if self.world_model.scene.markers:
            with (self.out / CSV_NAME).open("a", newline="") as file:
                csv.writer(file).writerow(csv_row(self.world_model.scene, track, len(self._frames)))
        if len(self._frames) == len(self._truth.true_px):
            self._finish(track)
        return result

    def replay(self, seed: int | None = None) -> Evaluation:
        """Replay the whole episode, write everything, and return the result."""
        self.reset(seed=seed)
        for _ in tqdm(range(len(self._truth.true_px)), desc="replay in the dream", unit="step"):
            self.step(self.next_action)
        assert self.evaluation is not None
        return self.evaluation

    def _track(self) -> OpenLoop:
        """The comparison so far; the truth is longer until the end is reached."""
        seen = np.stack(self._seen)
        return OpenLoop(
            self.number,
            self.episode.kind,
            self._truth,
            hold_all(seen, self._truth.start_px),
            np.asarray(np.isfinite(seen).all(axis=-1)),
            np.stack(self._places),
        )

    def _finish(self, track: OpenLoop) -> None:
        latents = torch.cat(self._latents)
        whole = dataclasses.replace(
            track,
            figures=perception_figures(self.world_model, self.episode),
            turned_deg=heading_errors(self.world_model, latents, self.episode, slice(self._first, None)),
        )
        self.evaluation = Evaluation(self.world_model.scene, len(self._frames), (whole,))
        real = self.episode.frames[self._first :]
        clip = Footage(whole, f"{whole.kind}: episode {self.number}", real, np.stack(self._frames))
        write_outputs(self.out, self.evaluation, [clip])


@dataclasses.dataclass(frozen=True)
class _Step:
    """One step of both worlds; N markers.

    Attributes:
        action: What both did, (A,).
        dream_frame: The dreamed picture, uint8 (H, W, 3).
        frame: The simulator's, of the same size.
        true_m: Where the markers really are, (N, 2), NaN where absent.
        dream_m: Where the readout sees them in the dream, (N, 2).
        true_px: Where they are found in the picture, px at 512, (N, 2), NaN where not.
        dream_px: The same in the dreamed picture.
    """

    action: NDArray[np.float32]
    dream_frame: NDArray[np.uint8]
    frame: NDArray[np.uint8]
    true_m: Floats
    dream_m: Floats
    true_px: Floats
    dream_px: Floats


class LockstepRecorder(gym.Wrapper[Any, NDArray[np.float32], Any, NDArray[np.float32]]):
    """Plays an episode in the dream and in the real simulator at once: same state, same goal, same live actions.

    To its agent it is one of the two environments, whose observations, rewards and ends it hands on. When an episode
    ends, the same pictures and metrics as of a replay are written, of all episodes so far.

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
        self._dream, self._real, self._sees, self.out = dream, real, sees, Path(out)
        inner: Any = dream.unwrapped
        simulated: Any = real.unwrapped
        if not hasattr(inner, "world_model") or hasattr(inner, "simulator") or not hasattr(simulated, "simulator"):
            raise ValueError(f"expected a CosmosDream-v0 and a CosmosReal-v0, got {inner} and {simulated}")
        self.world_model: WorldModel = inner.world_model
        if not self.world_model.scene.markers:
            raise ValueError(f"the scene {self.world_model.scene.name!r} has no markers, so there is nothing to log")
        eyes = [each.world_model.perception.fingerprint() for each in (inner, simulated)]
        if eyes[0] != eyes[1]:
            raise ValueError(
                f"the dream's tokenizer is {eyes[0]}, the real environment looks through {eyes[1]}: "
                "make both with the same world_model"
            )
        self._rng = np.random.default_rng(seed)
        self._number = -1
        self._other_ended = False
        self._tracks: list[OpenLoop] = []
        self._clips: list[Footage] = []
        self._steps: list[_Step] = []
        self._start = 0
        self._start_px: Floats = np.zeros((0, 2))
        self._ended = True
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
        contexts = self.world_model.contexts
        known = (~contexts.states.isnan()).any(dim=1).numpy()
        simulated: Any = self._real.unwrapped
        known &= np.array([simulated.kind in (None, kind) for kind in contexts.kinds])
        for key, held in (("episode", contexts.episodes), ("start", contexts.starts)):
            if key in options:
                known &= held.numpy() == options.pop(key)
        if not known.any():
            raise ValueError("the bundle stores no such context with a simulator state, so both cannot start alike")
        self._start = int(self._rng.choice(np.flatnonzero(known)))
        where = {"episode": int(contexts.episodes[self._start]), "start": int(contexts.starts[self._start])}
        dreamed = self._dream.reset(seed=seed, options={**options, **where})
        goal = {"goal": dreamed[1]["goal"]} if "goal" in dreamed[1] else {}
        real = self._real.reset(seed=seed, options={**where, **goal})
        self._steps, self._ended, self._other_ended = [], False, False
        self._number += 1
        scene = self.world_model.scene
        self._start_px = hold_from_centre(detect_all(simulated.frame[None], scene), scene)[0]
        return dreamed if self._sees == "dream" else real

    def step(self, action: NDArray[np.float32]) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """One step of both, logged.

        Returns:
            Of the environment that the agent sees; its info has the other one's reward as "other_reward", NaN after its
            end, and "gap_m", the metres between dreamed and true object.
        """
        if self._ended:
            raise gym.error.ResetNeeded("call reset() before the first step and after an episode's end")
        dreamed, real = self._dream.step(action), self._real.step(action)
        inner: Any = self._dream.unwrapped
        simulated: Any = self._real.unwrapped
        scene = self.world_model.scene
        latent = inner.context[-1:]
        dream_frame = decode_frames(self.world_model, latent)[0]
        true_m = np.full((len(scene.markers), 2), np.nan)
        for index, name in enumerate(scene.marker_names):
            true_m[index] = real[4].get(f"{name}_position", np.nan)
        self._steps.append(
            _Step(
                np.asarray(action, np.float32),
                dream_frame,
                simulated.frame,
                true_m,
                locate(self.world_model, latent)[0],
                detect_all(simulated.frame[None], scene)[0],
                detect_all(dream_frame[None], scene)[0],
            )
        )
        track = self._track()
        seen, other = (dreamed, real) if self._sees == "dream" else (real, dreamed)
        paid, other_paid = float(seen[1]), np.nan if self._other_ended else float(other[1])  # nothing after its end
        self._other_ended |= other[2] or other[3]
        rewards = (paid, other_paid) if self._sees == "dream" else (other_paid, paid)
        with (self.out / CSV_NAME).open("a", newline="") as file:
            row = csv_row(scene, track, len(self._steps))
            csv.writer(file).writerow([*row, *("" if np.isnan(reward) else f"{reward:.5g}" for reward in rewards)])
        observation, reward, terminated, truncated, info = seen
        if terminated or truncated:
            self._finish()
        gap = float(np.linalg.norm(track.dream_m[-1, 0] - true_m[0]))
        return observation, reward, terminated, truncated, info | {"other_reward": other_paid, "gap_m": gap}

    def close(self) -> None:
        """Close both environments."""
        self._dream.close()
        self._real.close()

    def _track(self) -> OpenLoop:
        """The episode so far."""
        seen = np.stack([step.dream_px for step in self._steps])
        truth = np.stack([step.true_px for step in self._steps])
        return OpenLoop(
            self._number,
            str(self.world_model.contexts.kinds[self._start]),
            Reference(self._start_px, truth, np.stack([step.true_m for step in self._steps])),
            hold_all(seen, self._start_px),
            np.asarray(np.isfinite(seen).all(axis=-1)),
            np.stack([step.dream_m for step in self._steps]),
        )

    def _finish(self) -> None:
        """Measure the episode that has ended as if it had been recorded, and write everything."""
        model, self._ended = self.world_model, True
        contexts, start, names = model.contexts, self._start, model.scene.marker_names
        latents = contexts.latents[start].float().to(model.device)
        length, horizon = len(latents), len(self._steps)
        places = [contexts.positions[start].numpy(), np.stack([step.true_m for step in self._steps])]
        tracks = np.concatenate(places).astype(np.float32)
        rest = np.zeros((length - 1, model.scene.action_dim), np.float32)  # what led through the context is not known
        state = contexts.states[start].numpy()
        state = state[~np.isnan(state)]
        episode = Episode(
            np.concatenate([decode_frames(model, latents), np.stack([step.frame for step in self._steps])]),
            np.stack([*rest, *(step.action for step in self._steps)]),
            contexts.kinds[start],
            0,
            {name: tracks[:, index] for index, name in enumerate(names) if not np.isnan(tracks[:, index]).all()},
            {"state": np.broadcast_to(state, (length + horizon, len(state)))},
        )
        simulator = cast(Any, self._real.unwrapped).simulator
        number, end = self._number, simulator.get_state()
        restartable = simulator if hasattr(simulator, "perturb") and model.scene.camera is not None else None
        truth = reference(model.scene, episode, length, None, restartable, np.random.default_rng(number))
        simulator.set_state(end)  # which the floor has moved
        truth = dataclasses.replace(truth, start_px=self._start_px)  # the context's own pictures are not kept
        pictured = {name: values[length:] for name, values in episode.positions.items()}
        seen = Episode(episode.frames[length:], episode.actions[length:], episode.kind, 0, pictured)
        track = dataclasses.replace(self._track(), reference=truth, figures=perception_figures(model, seen))
        self._tracks.append(track)
        title = f"{track.kind}: live episode {number}"
        self._clips.append(Footage(track, title, seen.frames, np.stack([step.dream_frame for step in self._steps])))
        longest = max(len(each.dream_px) for each in self._tracks)
        self.evaluation = Evaluation(model.scene, longest, tuple(self._tracks), first=length)
        write_outputs(self.out, self.evaluation, self._clips)
