"""How is a recorded episode replayed in a dream? Under its own actions, logged step by step against its truth.

recorder = DreamRecorder(gym.make("CosmosDream-v0", max_episode_steps=97), episode, "out")
recorder.replay()
"""

from __future__ import annotations

import os
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ..borders import array_of
from ..data.episodes import Episode
from ..data.stored import layout_of, observed
from ..evaluation import Evaluation
from ..evaluation.ground_truth import reference
from ..evaluation.open_loop import first_dreamed
from ..evaluation.perception_metrics import figures_of, heading_errors
from ..protocols import RestartableSimulator
from ..spaces import own_actions
from ..storage.paths import user_path
from ..worlds import DreamEnvironment
from .log import CSV_COLUMNS, CSV_NAME, STATES_NAME, append_row, rows_of_others, state_columns, state_row, write_csv
from .recording import Recording
from .report import write_metrics, write_outputs
from .twins import replay, write_pictures


class DreamRecorder(gym.Wrapper[Any, NDArray[np.float32], Any, NDArray[np.float32]]):
    """Makes a dream replay a recorded episode, and logs where the dreamed object is against where it really was.

    Of the twin of a foreign environment the components of the observation, reward and end are logged instead.

    `replay()` does it all; or `reset()` and `step()` by hand, with the recorded actions. The ends that the task knows
    are ignored: a replay goes on to the end of the recorded episode, and then writes the pictures and metrics too.

    Args:
        env: `CosmosDream-v0`, or any environment whose unwrapped one is a `DreamEnvironment` and whose `reset` takes
            `options={"frames": ...}`.
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
        dream = env.unwrapped
        if not isinstance(dream, DreamEnvironment):
            raise ValueError(
                f"DreamRecorder records dreams such as CosmosDream-v0, not {dream}: a dream has a world_model, a task, "
                "a context and an engine"
            )
        if not isinstance(episode, Episode):
            raise ValueError(
                f"expected an Episode, as WorldModel.load().held_out()[0] or EpisodeDataset(path)[0] are, got {episode}"
            )
        self._dream: DreamEnvironment = dream
        self.world_model = dream.world_model
        self.episode, self.number, self.out = episode, number, user_path(out)
        self._first = first_dreamed(self.world_model)
        if len(episode) < self._first:
            raise ValueError(
                f"the episode has {len(episode.frames)} frames; {self._first} of context and one more are needed"
            )
        noise = np.random.default_rng(number)
        self._truth = reference(self.world_model.scene, episode, self._first, None, simulator, noise)
        self._layout = layout_of(self.world_model.scene) if self.world_model.perception.heads is not None else None
        self._observed = observed(episode, self.world_model.scene) if self._layout is not None else None
        self._recording, self._started = self._new_recording(), False
        self.evaluation: Evaluation | None = None

    @property
    def next_action(self) -> NDArray[np.float32]:
        """The recorded action that `step` expects next, (A,).

        Raises:
            ValueError: If the episode is at its end.
        """
        step = self._first - 1 + len(self._recording)
        if step >= len(self.episode):
            raise ValueError(f"the recorded episode {self.number} is at its end; call reset() to replay it again")
        return self.episode.actions[step]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start the dream from the episode's first frames, and its part of the log anew."""
        self._recording, self.evaluation = self._new_recording(), None
        name, columns = (CSV_NAME, CSV_COLUMNS) if self._layout is None else (STATES_NAME, self._columns)
        write_csv(self.out / name, rows_of_others(self.out / name, self.number), columns=columns)
        begun = self._first - self.world_model.dynamics.context_length
        seen = {"frames": self.episode.frames[begun : self._first]}
        own = self._dream.task.action_space
        seen["actions"] = own_actions(own, self.episode.actions[begun : self._first - 1])
        self._started = True
        return self.env.reset(seed=seed, options={**(options or {}), **seen})

    def step(self, action: NDArray[np.float32]) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Dream one recorded step and log it.

        Raises:
            ValueError: If `action` is not the recorded one.
        """
        recording, truth = self._recording, self._truth
        if not self._started:
            raise gym.error.ResetNeeded("call reset() before the first step")
        action = array_of(action, "action", np.float32)
        if action.shape != self.next_action.shape or not np.allclose(action, self.next_action, atol=1e-6):
            raise ValueError(
                f"step {len(recording) + 1} of the replay expects the recorded action {self.next_action}, "
                f"got {action}; pass recorder.next_action"
            )
        own = self._dream.task.action_space
        result = self.env.step(own_actions(own, action[None])[0])
        step = len(recording)
        frame = self.episode.frames[self._first + step]
        recording.add(self._dream.context[-1], frame, truth.true_px[step], truth.true_m[step])
        if self.world_model.scene.markers:
            append_row(self.out / CSV_NAME, recording.row())
        if self._layout is not None:
            append_row(self.out / STATES_NAME, self._state_row(step + 1, float(result[1]), bool(result[2])))
        if len(recording) == len(truth.true_px):
            self._finish()
        return result

    def replay(self, seed: int | None = None) -> Evaluation:
        """Replay the whole episode, write everything, and return the result."""
        self.reset(seed=seed)
        for _ in tqdm(range(len(self._truth.true_px)), desc="replay in the dream", unit="step"):
            self.step(self.next_action)
        assert self.evaluation is not None
        return self.evaluation

    @property
    def _columns(self) -> tuple[str, ...]:
        return state_columns([] if self._layout is None else self._layout.names)

    def _state_row(self, step: int, reward: float, over: bool) -> list[str]:
        """What was observed and earned in a step of a twin, beside what was dreamed."""
        heads, episode, index = self.world_model.perception.heads, self.episode, self._first - 1 + step
        assert heads is not None
        assert self._observed is not None
        dreamed = heads.in_units(self._dream.task.remembered["read"])[0].tolist()
        true = self._observed[index].tolist()
        told = (episode.rewards, episode.terminations)
        paid, ended = (float("nan") if each is None else float(each[index - 1]) for each in told)
        time_s = step / self.world_model.scene.control_hz
        states = list(zip(true, dreamed, strict=True))
        return state_row(self.number, step, time_s, states, paid, reward, ended, float(over))

    def _new_recording(self) -> Recording:
        return Recording(self.world_model, self.number, self.episode.kind, self._truth.start_px)

    def _finish(self) -> None:
        model, recording, episode = self.world_model, self._recording, self.episode
        turned = heading_errors(model, recording.latents, episode.marker_headings(model.scene)[self._first :])
        title = f"{episode.kind}: episode {self.number}"
        clip = recording.footage(title, self._truth, figures_of(model, episode), turned)
        self.evaluation = Evaluation(model.scene, len(recording), (clip.track,))
        if self._layout is None:
            write_outputs(self.out, self.evaluation, [clip])
        else:
            write_metrics(self.out, self.evaluation)
            write_pictures(self.out, model, [replay(model, episode, self.number, recording.latents)])
