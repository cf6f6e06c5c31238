"""What happens in a dream that is played? It steps, goes back, is handed to a policy, and is recorded."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..envs import DreamEnv
from ..envs.starts import default_kind
from ..spaces import action_vectors
from ..world_model import WorldModel
from .beside import Beside, new_beside
from .controls import Controls
from .demonstrations import Demonstrations, Source
from .moment import Moment, episode_of, until_end
from .wheel import new_wheel

_MOST_STEPS, _MOST_BYTES = 2000, 2**28  # that a dream can be taken back
Pictures = list[NDArray[np.uint8]]


@dataclass(frozen=True)
class Options:
    """How a dream is played.

    Attributes:
        max_steps: Steps until an episode is over; the bundle's own when None.
        policy: Who can take the wheel, as of `new_wheel`.
        named: What a twin's real environment is called, where Gymnasium does not know it by itself.
        pictures: Whose pictures are recorded: the "dream"'s, or the "real" ones, which are then always beside it.
        seed: Of the seeds of the dreams.
    """

    max_steps: int | None = None
    policy: str | None = None
    named: str | None = None
    pictures: str = "dream"
    seed: int = 0


class Session:
    """One dream that is played, with its past. It knows nothing of pages, networks and time.

    Args:
        model: The bundle.
        options: How it is played.
        demonstrations: Where recorded episodes go; None where nothing can be recorded.

    Attributes:
        controls: What the player can do.
        wheel: Whether the policy acts.
        recording: Whether this episode is being recorded.

    Raises:
        ValueError: If an option is impossible, or the bundle's actions cannot be played.
    """

    def __init__(self, model: WorldModel, options: Options | None = None, demonstrations: Demonstrations | None = None):
        self.model, self.options, self._demonstrations = model, options or Options(), demonstrations
        self.env = DreamEnv(model, max_episode_steps=self.options.max_steps)
        self.controls = Controls(self.env.action_space, model.scene)
        self._policy = new_wheel(self.options.policy, self.env, self.options.seed)
        # Others when more is recorded into the same folder: equal starts would be in several splits.
        self._seeds = np.random.default_rng([self.options.seed, self.recorded])
        self._real: Beside | None = None
        self.wheel = self.recording = False
        self._moments: list[Moment] = []
        self._kept: list[Moment] = []  # of this dream, as they are a demonstration already
        if self._keeps_real:
            self.set_real(True)
        else:
            self.reset()

    @property
    def has_policy(self) -> bool:
        """Whether a policy can take the wheel."""
        return self._policy is not None

    @property
    def can_record(self) -> bool:
        """Whether there is a folder to record to."""
        return self._demonstrations is not None

    @property
    def real(self) -> bool:
        """Whether the real one goes beside the dream."""
        return self._real is not None

    @property
    def now(self) -> Moment:
        """The newest moment."""
        return self._moments[-1]

    @property
    def past(self) -> list[Moment]:
        """All moments since the start of this dream, oldest first."""
        return self._moments

    @property
    def over(self) -> bool:
        """Whether this dream has ended, though it may be played on."""
        return any(moment.ended for moment in self._moments)

    @property
    def recorded(self) -> int:
        """Demonstrations so far."""
        return 0 if self._demonstrations is None else len(self._demonstrations)

    def source(self) -> Source:
        """What demonstrations of this session are of."""
        return source_of(self.model, self.options.pictures)

    def reset(self, seed: int | None = None) -> None:
        """Start a new dream; one that was being recorded is thrown away, and the new one is recorded."""
        seed = int(self._seeds.integers(2**31)) if seed is None else seed
        start = {} if self._real is None else self._real.begin(seed)
        observation, info = self.env.reset(seed=seed, options=start)
        self._moments, self._kept, self.seed = [self._seen(observation, info)], [], seed

    def step(self, action: NDArray[Any]) -> Moment:
        """Go on by the player's action, or the policy's where that is at the wheel.

        What fails changes nothing: the dream, and the real one, are where they were.

        Raises:
            ValueError: If the action is none of the environment's, or the past has become too long to be kept.
        """
        past = len(self._moments)
        if past > min(_MOST_STEPS, max(2, _MOST_BYTES // self.now.nbytes)):
            raise ValueError(f"this dream is {past - 1} steps old: start a new one")
        policy = self._policy if self.wheel else None
        if policy is not None:
            action = np.asarray(policy(self.now.observation))
        try:
            moment = self._after(action)
        except BaseException:
            self._return()
            raise
        moment.by_policy = policy is not None
        self._moments.append(moment)
        return moment

    def rewind(self, steps: int) -> None:
        """Go back so many steps, at most to the start; the real one too. A recording forgets them."""
        del self._moments[max(1, len(self._moments) - max(0, steps)) :]
        self._return()

    def set_real(self, on: bool) -> None:
        """Let the real one go beside the dream, or not. Both start anew: only there they are alike.

        Raises:
            ValueError: If they cannot start alike, or recordings are of real pictures.
            ImportError: If the simulator is not installed.
            RuntimeError: If it cannot draw here.
        """
        if not on and self._keeps_real:
            raise ValueError("the recordings are of real pictures, so the simulator stays")
        if on == self.real:
            return
        if on:
            idle = self._vector(self.controls.rest())
            real = new_beside(self.model, idle, self.options.named)
            try:
                real.begin(0)  # which shows whether it can draw
            except BaseException:
                real.close()
                raise
            self._real = real
        elif self._real is not None:
            self._real.close()
            self._real = None
        self.reset()

    def set_wheel(self, on: bool) -> None:
        """Hand the wheel to the policy, or take it back.

        Raises:
            ValueError: If there is no policy.
        """
        if on and self._policy is None:
            raise ValueError("nobody can take the wheel: name a policy with --policy")
        self.wheel = on

    def record(self, on: bool) -> None:
        """Begin a recording with a new dream; or end it, and keep what was played so far.

        Raises:
            ValueError: If there is no folder for it, or what was played is too short to be learned from.
            OSError: If the disk is full; the recording stays, so that it can be ended again.
        """
        if self._demonstrations is None:
            raise ValueError("there is no folder for demonstrations: start with --out DIR")
        if on and not self.recording:
            self.reset()
            self.recording = True
        elif not on and self.recording:
            self.recording = False
            try:
                if len(self._moments) > 1 and self._to_keep():
                    self.keep()
            except OSError:
                self.recording = True
                raise

    def keep(self) -> int:
        """Keep what was played from the start of this dream to its end as a demonstration; how many there are now.

        Raises:
            ValueError: If it is too short to be learned from.
            OSError: If the disk is full.
        """
        assert self._demonstrations is not None
        moments = self._to_keep()
        if len(moments) <= self._least:
            raise ValueError(f"a demonstration has {self._least} steps at least; this one was not kept")
        source = self.source()
        episode = episode_of(moments, source.scene, source.kind, self.seed, self._keeps_real)
        count = self._demonstrations.add(episode)
        self._kept = moments
        return count

    def pictures(self) -> Pictures:
        """The dream with its goal marked, and the real one if it is there, uint8 (H, W, 3) each."""
        now = self.now
        shown = [now.frame] if now.true_frame is None else [now.frame, now.true_frame]
        return [self.env.task.annotate(frame[None])[0] for frame in shown]

    def close(self) -> None:
        """Keep a recording that is long enough; free the simulator and the dream."""
        with ExitStack() as closing:
            closing.callback(self.env.close)
            if self._real is not None:
                closing.callback(self._real.close)
            if self.recording and len(self._to_keep()) > self._least:
                self.keep()

    @property
    def _least(self) -> int:
        """Steps of a demonstration; with the start these are one frame more than the dynamics looks at."""
        return self.model.dynamics.context_length

    @property
    def _keeps_real(self) -> bool:
        return self.options.pictures == "real"

    def _to_keep(self) -> list[Moment]:
        """What a demonstration of this dream has; nothing where one that was kept begins just so."""
        moments = until_end(self._moments, self._keeps_real)
        return [] if moments == self._kept[: len(moments)] else moments

    def _after(self, action: NDArray[Any]) -> Moment:
        """The moment after an action, of the dream and the real one."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        vector = self._vector(action)
        if self._real is not None:
            self._real.step(vector)
        moment = self._seen(observation, info)
        moment.action, moment.reward, moment.terminated, moment.truncated = vector, reward, terminated, truncated
        return moment

    def _return(self) -> None:
        """Go on from the newest moment, the real one too."""
        self.env.set_state(self.now.state)
        if self._real is not None:
            self._real.rewind(len(self._moments) - 1)

    def _vector(self, action: NDArray[Any]) -> NDArray[np.float32]:
        """An action as networks and datasets have it, (A,)."""
        return action_vectors(self.env.action_space, np.asarray(action)[None])[0]

    def _seen(self, observation: Any, info: dict[str, Any]) -> Moment:
        """The moment that the dream, and the real one, are at."""
        frame = self.model.decode(self.env.context[-1:]).cpu().numpy()[0]
        moment = Moment(self.env.get_state(), frame, observation, info)
        if self._real is not None:
            moment.true_frame, moment.true_positions = self._real.frame.copy(), self._real.positions()
            moment.shown = self._real.shown
        return moment


def source_of(model: WorldModel, pictures: str) -> Source:
    """What demonstrations that are played in a bundle are of.

    Args:
        model: The bundle.
        pictures: Whose pictures are recorded, "dream" or "real".
    """
    kind = default_kind(model) if model.scene.environment is None else None
    return Source(model.scene, model.fingerprint(), pictures, kind or "episode")
