"""What is an episode on the table judged by? Goals: spaces, observations, rewards and ends, all from latents.

The dream and the real environment hand every newest latent to a task, which reads it through the bundle's readout. So
neither shows its agent anything that was not seen in a picture, and what is learned in one means the same in the other.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ..borders import integer, ours, tensor_of
from ..perception import Perception
from ..perception.readout import Located
from ..worlds import Glimpse, Infos, Observation
from .actions import ActionCheck
from .batches import for_all, to_numpy
from .observing import SHOWN, shown, space_of
from .reward import Outcome, RewardFunction, checked_rewards, progress_rewards
from .sight import Sight
from .trust import TrustOptions
from .workspace import Workspace, distance, with_goals_of

OBS_TYPES = ("pose", *SHOWN)
REWARD_TYPES = ("dense", "sparse", "progress")


class TableOptions(TrustOptions, total=False):
    """The options of a `TableTask` that environments hand on to it, beside those of `TrustOptions`.

    Attributes:
        obs_type: "pose" (default), "latent" (default without positions), "latent16" (half the memory) or "rgb".
        reward_type: "dense" (default), "sparse" or "progress".
        reward_fn: Replaces the reward, not the ends: from an `Outcome` to B finite numbers.
        goal: (x, y) in metres of every episode's goal; drawn anew for each when None.
        goal_radius: Metres, nearer than which the object is at its goal; the scene's when None.
        max_episode_steps: Time limit; the scene's when None.
    """

    obs_type: str | None
    reward_type: str
    reward_fn: RewardFunction | None
    goal: ArrayLike | None
    goal_radius: float | None
    max_episode_steps: int | None


class TableTask:
    """B episodes of bringing the scene's first marker, the object, to a goal; a `Task`.

    Args:
        perception: Scene, tokenizer and readout of the bundle.
        num_envs: B.
        obs_type: As of `TableOptions`, and so are the next five.
        reward_type: See there.
        reward_fn: See there.
        goal: See there.
        goal_radius: See there.
        max_episode_steps: See there.
        to_torch: Show the user's `reward_fn` tensors on the perception's device instead of arrays.

    Attributes:
        goals: Where the object shall go, metres, (B, 2).
        steps: Steps since the start of each episode, (B,).

    Raises:
        ValueError: If an argument is unknown or impossible, or the bundle has no readout to support it.
    """

    reset_options: tuple[str, ...] = ("goal",)

    def __init__(
        self,
        perception: Perception,
        num_envs: int = 1,
        obs_type: str | None = None,
        reward_type: str = "dense",
        reward_fn: RewardFunction | None = None,
        goal: ArrayLike | None = None,
        goal_radius: float | None = None,
        max_episode_steps: int | None = None,
        to_torch: bool = False,
    ):
        self.scene = scene = with_goals_of(perception.scene, goal_radius)
        self._sight = sight = Sight(perception, num_envs)
        sees, rewarded = bool(sight.names), reward_fn is not None
        obs_type = obs_type or ("pose" if sees else "latent")
        for name, value, known in (("obs_type", obs_type, OBS_TYPES), ("reward_type", reward_type, REWARD_TYPES)):
            if value not in known:
                raise ValueError(f"unknown {name} {value!r}; expected one of {known}")
        if max_episode_steps is not None and integer(max_episode_steps, "max_episode_steps") < 1:
            raise ValueError(f"max_episode_steps must be at least 1, got {max_episode_steps}")
        goals = not (goal is None and goal_radius is None)
        if not sees and (obs_type == "pose" or goals or (not rewarded and reward_type != "dense")):
            raise ValueError(
                f"the bundle of scene {scene.name!r} was made from data without positions, so it knows no poses and no "
                'goals: use obs_type="latent" or "rgb", and pass a reward_fn of latents or frames'
            )
        if not sees and not rewarded:
            warnings.warn(f"scene {scene.name!r} has no positions: rewards are 0 without a reward_fn", stacklevel=2)
        self.observes = "memory" if obs_type == "pose" else "latents"
        self.perception, self.obs_type, self.reward_type, self.reward_fn = perception, obs_type, reward_type, reward_fn
        self.max_episode_steps = max_episode_steps or scene.episode_steps
        self.device, self._to_torch = perception.device, to_torch
        self.goals = torch.zeros(num_envs, 2, dtype=torch.float32, device=self.device)
        self.steps = torch.zeros(num_envs, dtype=torch.int64, device=self.device)
        self._workspace = Workspace(scene, self.device) if sees else None
        actions = spaces.Box(np.array(scene.action_low, np.float32), np.array(scene.action_high, np.float32))
        self.action_space: spaces.Space[NDArray[np.float32]] = actions
        self.check_actions = check = ActionCheck(actions, num_envs, self.device)
        self.bound_actions, self.refuse_actions = check.bounded, check.refuse
        self.observation_space = self._observation_space()
        self._fixed_goal = None if goal is None else self.workspace.check_goals(goal, 1)

    @property
    def workspace(self) -> Workspace:
        """Where the object can be; a `ValueError` if the bundle knows no positions."""
        if self._workspace is None:
            raise ValueError(f"the bundle of scene {self.scene.name!r} knows no positions, so it can have no goal")
        return self._workspace

    @property
    def goal_area(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Corners (x, y) in metres of where goals are drawn."""
        return self.workspace.goal_area

    @property
    def has_compute_reward(self) -> bool:
        """Whether rewards follow from achieved and desired goals in the observation, as goal environments promise."""
        return self.obs_type == "pose" and self.reward_fn is None and self.reward_type != "progress"

    @property
    def asks_outside(self) -> bool:
        """See `Task`."""
        return self.reward_fn is not None

    @property
    def remembered(self) -> dict[str, Tensor]:
        """Every tensor that a step or a start changes, by name, (B, ...)."""
        return {"steps": self.steps, "goals": self.goals, **self._sight.remembered}

    def glimpse(self, latents: Tensor, past: Tensor | None = None) -> Glimpse:
        """What is seen in contexts (n, K, C, h, w); actions do not matter."""
        return self._sight.glimpse(latents)

    def start(self, which: Tensor, glimpse: Glimpse, keys: Tensor, options: Mapping[str, Any] | None = None) -> None:
        """Begin new episodes in some of the environments.

        Args:
            which: Mask (B,).
            glimpse: What each of the B sees at first; of no meaning outside of the mask.
            keys: Of the random numbers that goals are drawn with, (B,).
            options: "goal": (x, y) in metres for all or (B, 2), instead of drawn ones.
        """
        goals = self._asked_goals(options or {})  # a wrong one is an error before anything has changed
        self.steps.masked_fill_(which, 0)
        self._sight.start(which, glimpse)
        if goals is None and self._workspace is not None:
            goals = self._workspace.draw_goals(keys, self._sight.positions[:, 0])
        if goals is not None:
            self.goals.copy_(torch.where(which.unsqueeze(1), goals, self.goals))

    def advance(
        self, latents: Tensor, actions: Tensor, located: Located | None = None
    ) -> tuple[Observation, Tensor, Tensor, Tensor]:
        """Judge one step of all environments.

        Args:
            latents: The newest latents, (B, C, h, w).
            actions: What led to them, (B, A).
            located: What is in them, if that is known already; read from them if not.

        Returns:
            Observations, rewards, terminated, truncated.
        """
        before = self._sight.by_name() if self.reward_fn is not None else {}
        places = self._sight.positions.clone()
        self._sight.look(latents, located)
        self.steps += 1
        if self._workspace is not None:
            succeeded = self._succeeded()
            terminated = succeeded | self._workspace.left(self._achieved().double())
            lost = ~self._sight.seen[:, 0]
        else:
            succeeded = terminated = torch.zeros_like(self.steps, dtype=torch.bool)
            lost = ~latents.flatten(1).isfinite().all(dim=1)
        truncated = (self.steps >= self.max_episode_steps) | lost
        if self.reward_fn is not None:
            rewards = checked_rewards(self.reward_fn(self._outcome(latents, actions, before)), lost)
        elif self._workspace is None:
            rewards = torch.zeros_like(self.steps, dtype=torch.float64)
        elif self.reward_type == "progress":
            left = self._workspace.left(self._achieved().double())
            told = places, self._sight.positions, self.goals, self.scene.agent_index, succeeded, left
            rewards = progress_rewards(*told)
        else:
            rewards = self._reward(self._achieved().double(), self.goals.double())
        return self.observe(latents), rewards, terminated, truncated

    def observe(self, latents: Tensor) -> Observation:
        """The current observations of all environments, from their newest latents (B, C, h, w)."""
        if self.obs_type in SHOWN:
            return shown(self.obs_type, self.perception, latents)
        speed = self.scene.max_speed
        seen = [self.workspace.clamp(self._sight.positions), self._sight.velocities().clamp(-speed, speed)]
        return {  # in the order of the space, which sorts its keys
            "achieved_goal": self._achieved(),
            "desired_goal": self.goals.clone(),
            "observation": torch.cat(seen, dim=1).flatten(1),
        }

    @ours
    def compute_reward(
        self, achieved_goal: ArrayLike | Tensor, desired_goal: ArrayLike | Tensor, info: Any = None
    ) -> Tensor | NDArray[np.float64]:
        """The reward of being at `achieved_goal` (..., 2) when `desired_goal` (..., 2) was meant, both in metres.

        Sparse: 0 within the goal radius, else -1. Dense: minus the distance as a share of the workspace's diagonal,
        so also in [-1, 0]. Where the object has left the workspace, a whole episode of -1 on top: ending an episode
        that way must never pay.

        Args:
            achieved_goal: Where the object is.
            desired_goal: Where it should be.
            info: Ignored; part of the goal environments' signature.

        Returns:
            Rewards (...), float64; a tensor for tensors.
        """
        named = (("achieved_goal", achieved_goal), ("desired_goal", desired_goal))
        achieved, desired = (tensor_of(goal, name, torch.float64, self.device) for name, goal in named)
        if achieved.shape != desired.shape or achieved.shape[-1:] != (2,):
            raise ValueError(
                f"expected achieved and desired goals of one shape (..., 2), got {tuple(achieved.shape)} and "
                f"{tuple(desired.shape)}"
            )
        rewards = self._reward(achieved, desired)
        return rewards if isinstance(achieved_goal, Tensor) else rewards.cpu().numpy()[()]

    def annotate(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Frames (B, H, W, 3) with a green ring of the goal radius around each goal, where the scene has a camera."""
        return frames if self._workspace is None else self._workspace.mark(frames, self.goals)

    def _observation_space(self) -> spaces.Space[Any]:
        if self.obs_type in SHOWN:
            return space_of(self.obs_type, self.perception)
        low, high = self.workspace.observed
        count, place = len(self.scene.markers), spaces.Box(low, high)
        speeds = np.full(2 * count, np.float32(self.scene.max_speed))
        ends = [np.concatenate([np.tile(low, count), -speeds]), np.concatenate([np.tile(high, count), speeds])]
        whole = spaces.Box(ends[0], ends[1])
        return spaces.Dict({"observation": whole, "achieved_goal": place, "desired_goal": place})

    def _asked_goals(self, options: Mapping[str, Any]) -> Tensor | None:
        """The goals that were asked for, or the fixed one, for all (B, 2); None where they are to be drawn."""
        if options.get("goal") is not None:
            return self.workspace.check_goals(options["goal"], len(self.goals))
        return None if self._fixed_goal is None else self._fixed_goal.expand_as(self.goals)

    def info(self) -> Infos:
        """Positions of what is seen, goals and successes."""
        if self._workspace is None:
            return {}
        return self._sight.infos() | for_all("goal", self.goals.clone()) | for_all("is_success", self._succeeded())

    def _succeeded(self) -> Tensor:
        """Whether the object is seen at its goal, (B,)."""
        at_goal = distance(self._achieved().double(), self.goals.double()) < self.scene.goal_radius
        return at_goal & self._sight.seen[:, 0]

    def _outcome(self, latents: Tensor, actions: Tensor, before: dict[str, Tensor]) -> Outcome:
        """What the user's reward function is shown."""
        told = actions, self._sight.by_name(), before, None if self._workspace is None else self.goals.clone()
        actions, now, before, goals = told if self._to_torch else to_numpy(told)
        return Outcome(latents.clone(), actions, now, before, goals, self.perception.decode)

    def _achieved(self) -> Tensor:
        """Where the object is, kept within the bounds of the observation, (B, 2)."""
        return self.workspace.clamp(self._sight.positions[:, 0])

    def _reward(self, achieved: Tensor, desired: Tensor) -> Tensor:
        """See `compute_reward`."""
        apart, sparse = distance(achieved, desired), self.reward_type == "sparse"
        reward = (apart < self.scene.goal_radius).double() - 1.0 if sparse else -apart / self.workspace.diagonal
        return reward - self.scene.episode_steps * self.workspace.left(achieved).double()
