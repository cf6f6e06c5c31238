"""A dream that follows a recorded episode, logged against the truth at every step.

    recorder = DreamRecorder(gym.make("CosmosDream-v0", max_episode_steps=97), episode, "out")
    recorder.replay()

Each step's row reaches `cube_positions.csv` at once, so what was logged survives whatever happens next.
"""

from __future__ import annotations

import csv
import dataclasses
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from .atomic import replacing
from .baselines import RestartableSimulator
from .data.episodes import Episode
from .evaluation import Evaluation
from .figures import Footage, draw_error_vs_horizon, draw_trajectories, write_video
from .open_loop import (
    Floats,
    OpenLoop,
    decode_frames,
    detect_all,
    first_dreamed,
    heading_errors,
    hold_all,
    locate,
    perception_figures,
    reference,
)
from .report import write_metrics
from .scene import Scene
from .world_model import WorldModel

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


def write_csv(path: str | os.PathLike[str], rows: Iterable[list[str]]) -> None:
    """Write a whole log at once."""
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        csv.writer(file).writerows([CSV_COLUMNS, *rows])


def write_outputs(out: str | os.PathLike[str], evaluation: Evaluation, footage: Sequence[Footage]) -> None:
    """Write what a comparison of dream and reality shows, except for the log itself.

    These are `metrics.json`, `tracking_metrics.txt`, `trajectory.png`, `error_vs_horizon.png`, `dream_vs_real.mp4`.
    """
    out = Path(out)
    write_metrics(out, evaluation)
    draw_trajectories(out / "trajectory.png", footage)
    draw_error_vs_horizon(out / "error_vs_horizon.png", evaluation)
    write_video(out / "dream_vs_real.mp4", footage, evaluation.scene.control_hz)


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
        simulator: The episode's own, for the predictability floor, or None to do without.

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
        if not (hasattr(dream, "world_model") and hasattr(dream, "context")):
            raise ValueError(f"DreamRecorder records dreams such as CosmosDream-v0, but {dream} has no world model")
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
