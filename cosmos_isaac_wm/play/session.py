"""What happens in a dream that is played? It steps, goes back, is handed to a policy, and is recorded."""

from __future__ import annotations

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
from .moment import Moment, episode_of
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
        more: dict[str, Any] = {"max_episode_steps": self.options.max_steps}
        if model.perception.readout is None and model.perception.heads is None:  # there is nothing to be judged by
            more |= {"obs_type": "latent", "reward_fn": lambda outcome: np.zeros(len(outcome.latents))}
        self.env = DreamEnv(model, **more)
        self.controls = Controls(self.env.action_space, model.scene)
        self._policy = new_wheel(self.options.policy, self.env, self.options.seed)
        self._seeds = np.random.default_rng(self.options.seed)
        self._real: Beside | None = None
        self.wheel = self.recording = False
        self._kept = False  # whether this dream is a demonstration already
        self._moments: list[Moment] = []
        self.seed = 0
        if self.options.pictures == "real":
            self.set_real(True)
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
    def recorded(self) -> int:
        """Demonstrations so far."""
        return 0 if self._demonstrations is None else len(self._demonstrations)

    def source(self) -> Source:
        """What demonstrations of this session are of."""
        return source_of(self.model, self.options.pictures)

    def reset(self, seed: int | None = None) -> None:
        """Start a new dream; one that was being recorded is thrown away, and the new one is recorded."""
        self.seed = int(self._seeds.integers(2**31)) if seed is None else seed
        start = {} if self._real is None else self._real.begin(self.seed)
        observation, info = self.env.reset(seed=self.seed, options=start)
        self._moments, self._kept = [self._seen(observation, info)], False

    def step(self, action: NDArray[Any]) -> Moment:
        """Go on by the player's action, or the policy's where that is at the wheel; keep a demonstration at its end.

        Raises:
            ValueError: If the action is none of the environment's, or the past has become too long to be kept.
        """
        past = len(self._moments)
        if past > min(_MOST_STEPS, max(2, _MOST_BYTES // self.now.nbytes)):
            raise ValueError(f"this dream is {past - 1} steps old: start a new one")
        by_policy = self.wheel and self._policy is not None
        if by_policy and self._policy is not None:
            action = np.asarray(self._policy(self.now.observation))
        observation, reward, terminated, truncated, info = self.env.step(action)
        vector = self._vector(action)
        if self._real is not None:
            self._real.step(vector)
        moment = self._seen(observation, info)
        moment.action, moment.by_policy, moment.reward = vector, by_policy, reward
        moment.terminated, moment.truncated = terminated, truncated
        self._moments.append(moment)
        return moment

    def rewind(self, steps: int) -> None:
        """Go back so many steps, at most to the start; the real one too. A recording forgets them."""
        kept = max(1, len(self._moments) - max(0, steps))
        del self._moments[kept:]
        self._kept = False  # what comes is another one
        self.env.set_state(self.now.state)
        if self._real is not None:
            self._real.rewind(kept - 1)

    def set_real(self, on: bool) -> None:
        """Let the real one go beside the dream, or not. Both start anew: only there they are alike.

        Raises:
            ValueError: If they cannot start alike, or recordings are of real pictures.
            ImportError: If the simulator is not installed.
            RuntimeError: If it cannot draw here.
        """
        if not on and self.options.pictures == "real":
            raise ValueError("the recordings are of real pictures, so the simulator stays")
        if on and self._real is None:
            idle = self._vector(self.controls.rest())
            real = new_beside(self.model, idle, self.options.named)
            try:
                real.begin(0)  # which shows whether it can draw
            except BaseException:
                real.close()
                raise
            self._real = real
        elif not on and self._real is not None:
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
        """
        if self._demonstrations is None:
            raise ValueError("there is no folder for demonstrations: start with --out DIR")
        if on and not self.recording:
            self.recording = True
            self.reset()
        elif not on and self.recording:
            self.recording = False
            if not self._kept and len(self._moments) > 1:
                self.keep()

    def keep(self) -> int:
        """Keep what was played since the start of this dream as a demonstration; how many there are now.

        Raises:
            ValueError: If it is too short to be learned from.
            OSError: If the disk is full.
        """
        assert self._demonstrations is not None
        least = self.model.dynamics.context_length  # and one frame more
        if len(self._moments) <= least:
            raise ValueError(f"a demonstration has {least} steps at least; this one was not kept")
        source = self.source()
        real = self.options.pictures == "real"
        count = self._demonstrations.add(episode_of(self._moments, source.scene, source.kind, self.seed, real))
        self._kept = True
        return count

    def pictures(self) -> Pictures:
        """The dream with its goal marked, and the real one if it is there, uint8 (H, W, 3) each."""
        now = self.now
        shown = [now.frame] if now.true_frame is None else [now.frame, now.true_frame]
        return [self.env.task.annotate(frame[None])[0] for frame in shown]

    def close(self) -> None:
        """Free the simulator and the dream."""
        if self._real is not None:
            self._real.close()
        self.env.close()

    def _vector(self, action: NDArray[Any]) -> NDArray[np.float32]:
        """An action as networks and datasets have it, (A,)."""
        return action_vectors(self.env.action_space, np.asarray(action)[None])[0]

    def _seen(self, observation: Any, info: dict[str, Any]) -> Moment:
        """The moment that the dream, and the real one, are at."""
        frame = self.model.decode(self.env.context[-1:]).cpu().numpy()[0]
        moment = Moment(self.env.get_state(), frame, observation, info)
        if self._real is not None:
            moment.true_frame, moment.true_positions = self._real.frame.copy(), self._real.positions()
        return moment


def source_of(model: WorldModel, pictures: str) -> Source:
    """What demonstrations that are played in a bundle are of.

    Args:
        model: The bundle.
        pictures: Whose pictures are recorded, "dream" or "real".
    """
    kind = default_kind(model) if model.scene.environment is None else None
    return Source(model.scene, model.fingerprint(), pictures, kind or "episode")
