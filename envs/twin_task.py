"""What is a twin's episode judged by? The environment's own spaces; its rewards and ends as heads have learned them.

What is observed, earned and over is read from latents, so the twin needs neither the environment nor its package.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ..borders import integer, tensor_of
from ..counter_rng import uniform
from ..data.stored import goals_of, layout_of
from ..perception import Perception
from ..perception.readout import Located
from ..protocols import LATENT_LIMIT
from ..sims.gymnasium_env import compute_reward_of
from ..spaces import ACHIEVED, DESIRED, read_space, torch_type
from ..worlds import Glimpse, Infos, Observation
from .actions import ActionCheck, ChoiceCheck
from .batches import to_numpy
from .observing import SHOWN, shown, space_of
from .reward import NO_COMPUTE_REWARD, Outcome, RewardFunction, checked_rewards
from .trust import TrustOptions

OBS_TYPES = ("env", *SHOWN)


class TwinOptions(TrustOptions, total=False):
    """The options of a `TwinTask` that environments hand on to it, beside those of `TrustOptions`.

    Attributes:
        obs_type: "env" (default; what the environment itself observes), "latent", "latent16" or "rgb".
        reward_fn: Replaces the reward, not the ends: from an `Outcome` to B finite numbers.
        max_episode_steps: Time limit; the environment's own when None.
    """

    obs_type: str
    reward_fn: RewardFunction | None
    max_episode_steps: int | None


class TwinTask:
    """B episodes of the environment that a bundle's recordings are of; a `Task`.

    Args:
        perception: Scene, tokenizer and heads of the bundle.
        num_envs: B.
        obs_type: As of `TwinOptions`, and so are the next two.
        reward_fn: See there.
        max_episode_steps: See there.
        to_torch: Show the user's `reward_fn` tensors on the perception's device instead of arrays.
        real: Whether latents are of real frames, which are believed in whatever they show.

    Attributes:
        steps: Steps since the start of each episode, (B,).
        goals: What a goal environment's episodes are to reach, (B, G); G is 0 of any other.

    Raises:
        ValueError: If an argument is unknown or impossible.
    """

    def __init__(
        self,
        perception: Perception,
        num_envs: int = 1,
        obs_type: str = "env",
        reward_fn: RewardFunction | None = None,
        max_episode_steps: int | None = None,
        to_torch: bool = False,
        real: bool = False,
    ):
        self.scene = scene = perception.scene
        if scene.environment is None or perception.heads is None:
            raise ValueError(f"the bundle of scene {scene.name!r} has no heads: fit its perception with fit-tokenizer")
        if obs_type not in OBS_TYPES:
            raise ValueError(f"unknown obs_type {obs_type!r}; expected one of {OBS_TYPES}")
        if max_episode_steps is not None and integer(max_episode_steps, "max_episode_steps") < 1:
            raise ValueError(f"max_episode_steps must be at least 1, got {max_episode_steps}")
        self.perception, self.obs_type, self.reward_fn = perception, obs_type, reward_fn
        self.max_episode_steps = max_episode_steps or scene.episode_steps
        self.device, self._to_torch, self._real = perception.device, to_torch, real
        self._heads, self._layout, self._picture = perception.heads, layout_of(scene), scene.environment.picture
        size, own_shape = 0 if self._layout is None else self._layout.size, perception.latent_shape
        if (size, *own_shape) != (self._heads.config.observed, *self._heads.latent_shape):
            raise ValueError(f"the heads of {scene.name!r} are for other observations, or pictures of another size")
        bounds = np.zeros((2, 0), np.float32) if self._layout is None else self._layout.bounds
        self._bounds = torch.from_numpy(bounds).to(self.device)
        own = read_space(scene.environment.observation_space)
        self.observation_space: spaces.Space[Any] = own if obs_type == "env" else space_of(obs_type, perception)
        self.action_space = read_space(scene.environment.action_space)
        check: ActionCheck | ChoiceCheck
        if isinstance(self.action_space, spaces.Discrete):
            check = ChoiceCheck(self.action_space, num_envs, self.device)
        elif isinstance(self.action_space, spaces.Box):
            check = ActionCheck(self.action_space, num_envs, self.device)
        else:
            raise ValueError(f"the environment of {scene.name!r} has actions {self.action_space}, which no twin has")
        self.check_actions, self.bound_actions, self.refuse_actions = check, check.bounded, check.refuse
        shape = self._heads.config
        self._goal_space = goals_of(scene)
        if shape.goal != (0 if self._goal_space is None else self._goal_space.shape[0]):
            raise ValueError(f"the heads of {scene.name!r} are for other goals")
        self.reset_options: tuple[str, ...] = ("goal",) if shape.goal else ()
        computed = shape.goal and obs_type == "env" and reward_fn is None
        self._reward_of_goals = compute_reward_of(scene) if computed else None
        self.goals = torch.zeros(num_envs, shape.goal, device=self.device)
        self.steps = torch.zeros(num_envs, dtype=torch.int64, device=self.device)
        self._memory = torch.zeros(num_envs, shape.frames, self._heads.remembered, device=self.device)
        self._read = torch.zeros(num_envs, shape.observed, device=self.device)  # normalised

    @property
    def has_compute_reward(self) -> bool:
        """Whether the environment's own `compute_reward` gives the rewards."""
        return self._reward_of_goals is not None

    @property
    def asks_outside(self) -> bool:
        """See `Task`."""
        return self.reward_fn is not None or self.has_compute_reward

    @property
    def observes(self) -> str:
        """See `Task`."""
        if self.obs_type != "env" or self._picture == "":
            return "latents"
        return "memory" if self._picture is None else "both"

    @property
    def goal_area(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Least and greatest of the recorded goals, from which those of episodes are drawn."""
        if self._heads.goals is None:
            raise ValueError(f"the twin of {self.scene.name!r} has no goals")
        recorded = self._heads.goals.double().cpu().numpy()
        return recorded.min(axis=0), recorded.max(axis=0)

    @property
    def read(self) -> Tensor:
        """The newest observations as the heads read them, normalised, (B, D)."""
        return self._read

    @property
    def remembered(self) -> dict[str, Tensor]:
        """Every tensor that a step or a start changes, by name, (B, ...)."""
        return {"steps": self.steps, "goals": self.goals, "memory": self._memory, "read": self._read}

    @torch.no_grad()
    def glimpse(self, latents: Tensor, past: Tensor | None = None) -> Glimpse:
        """What the heads remember and read of contexts (n, K, C, h, w) that actions (n, m, A) have led through."""
        led = latents.new_zeros(len(latents), 0, self._heads.config.actions) if past is None else past
        parts = zip(latents.split(64), led.split(64), strict=True)
        memory = torch.cat([self._heads.remember(*part) for part in parts])
        return Glimpse((memory, self._heads.observe(memory)))

    def start(self, which: Tensor, glimpse: Glimpse, keys: Tensor, options: Mapping[str, Any] | None = None) -> None:
        """Begin new episodes in some of the environments.

        Args:
            which: Mask (B,).
            glimpse: What each of the B sees at first; of no meaning outside of the mask.
            keys: Of the random numbers that recorded goals are drawn with, (B,).
            options: "goal" of a goal environment: (G,) for all or (B, G), instead of recorded ones.
        """
        goals = self._asked_goals(options or {})  # a wrong one is an error before anything has changed
        memory, read = glimpse.parts
        if self._heads.goals is not None:
            if goals is None:
                goals = self._heads.goals[(uniform(keys) * len(self._heads.goals)).long()]
            self.goals.copy_(torch.where(which.unsqueeze(1), goals, self.goals))
        self.steps.masked_fill_(which, 0)
        self._memory.copy_(torch.where(which.view(-1, 1, 1), memory, self._memory))
        self._read.copy_(torch.where(which.view(-1, 1), read, self._read))

    @torch.no_grad()
    def advance(
        self, latents: Tensor, actions: Tensor, located: Located | None = None
    ) -> tuple[Observation, Tensor, Tensor, Tensor]:
        """Judge one step of all environments.

        Args:
            latents: The newest latents, (B, C, h, w).
            actions: What led to them, as vectors (B, A).
            located: Ignored: there are no markers.

        Returns:
            Observations, rewards, terminated, truncated.
        """
        heads = self._heads
        self.steps += 1
        lost = ~latents.flatten(1).isfinite().all(dim=1)
        seen = latents.nan_to_num(0.0).clamp(-LATENT_LIMIT, LATENT_LIMIT)
        scaled = self.perception.scale_actions(actions)
        memory = heads.follow(self._memory, seen, scaled, self._real)
        read = heads.observe(memory)
        judged = heads.judge(self._read, read, memory, scaled, self.goals)
        self._memory.copy_(memory)
        self._read.copy_(read)
        terminated = judged.ends > 0
        truncated = (self.steps >= self.max_episode_steps) | lost
        rewards, observation = judged.rewards.double(), self.observe(latents)
        if self.reward_fn is not None:
            rewards = checked_rewards(self.reward_fn(self._outcome(latents, actions)), lost)
        elif self._reward_of_goals is not None:
            assert isinstance(observation, dict)
            rewards = checked_rewards(self.compute_reward(observation[ACHIEVED], self.goals.clone()), lost)
        return observation, rewards, terminated, truncated

    def observe(self, latents: Tensor) -> Observation:
        """The current observations of all environments, from their newest latents (B, C, h, w) and what was before."""
        if self.obs_type in SHOWN:
            return shown(self.obs_type, self.perception, latents)
        if self._layout is None:
            return self.perception.decode(latents)
        vectors = self._heads.in_units(self._read)
        observed: Observation = self._layout.observations(vectors.clamp(*self._bounds))
        if self._picture is None and self._goal_space is None:
            return observed
        assert isinstance(observed, dict)
        if self._goal_space is not None:
            observed |= {DESIRED: self.goals.to(torch_type(self._goal_space.dtype), copy=True)}
        if self._picture is not None:
            observed |= {self._picture: self.perception.decode(latents)}
        return {key: observed[key] for key in self.observation_space.spaces}  # type: ignore[attr-defined]

    def info(self) -> Infos:
        """Nothing: what the environment tells besides is not learned."""
        return {}

    def compute_reward(self, achieved_goal: ArrayLike, desired_goal: ArrayLike, info: Any = None) -> Any:
        """What the environment itself gives for being at one goal when another was meant, (G,) or (n, G) each.

        Raises:
            AttributeError: If it is no goal environment, or not installed.
        """
        if self._reward_of_goals is None:
            raise AttributeError(NO_COMPUTE_REWARD)
        achieved, desired = (to_numpy(each) for each in (achieved_goal, desired_goal))
        return np.asarray(self._reward_of_goals(achieved, desired, {} if info is None else info), np.float64)

    def annotate(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Frames (B, H, W, 3) as they are."""
        return frames

    def _asked_goals(self, options: Mapping[str, Any]) -> Tensor | None:
        """The goals that reset options ask for, (B, G).

        Raises:
            ValueError: If they are of another shape, or none of the environment's.
        """
        if options.get("goal") is None or self._goal_space is None:
            return None
        values = tensor_of(options["goal"], 'options["goal"]', torch.float32, self.device)
        if values.shape not in (self.goals.shape, self.goals.shape[1:]):
            raise ValueError(f'options["goal"] must have shape {self._goal_space.shape}, got {tuple(values.shape)}')
        low, high = (torch.from_numpy(end).to(values) for end in (self._goal_space.low, self._goal_space.high))
        if not bool(((values >= low) & (values <= high)).all()):
            raise ValueError(f'options["goal"] must be a goal of {self._goal_space}, got {values.tolist()}')
        return values.expand(self.goals.shape)

    def _outcome(self, latents: Tensor, actions: Tensor) -> Outcome:
        """What the user's reward function is shown."""
        shown = actions if self._to_torch else to_numpy(actions)
        goals = None
        if self._goal_space is not None:
            goals = self.goals.clone() if self._to_torch else to_numpy(self.goals.clone())
        return Outcome(latents.clone(), shown, {}, {}, goals, self.perception.decode)
