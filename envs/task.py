"""The task that dream and real share: spaces, observations, rewards and ends, all from latents and the bundle's scene.

Both environments hand every newest latent to a `Task`, which reads it through the bundle's readout. So neither shows
its agent anything that was not seen in a picture, and what is learned in one means the same in the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ..perception import Perception
from ..perception.readout import Located
from .reward import Outcome, RewardFunction, checked_rewards
from .sight import Sight

OBS_TYPES = ("pose", "latent", "latent16", "rgb")
REWARD_TYPES = ("dense", "sparse", "progress")
_LATENT_DTYPES = {"latent": torch.float32, "latent16": torch.float16}
LATENT_LIMIT = 20.0  # latents have unit variance per channel; observations are clipped here, to have finite bounds
EDGE = 0.05  # share of the workspace by which the object may be outside before it has left
# The terms of the "progress" reward; per metre, per step, and once at the end.
_OBJECT_PROGRESS, _AGENT_PROGRESS, _STEP_COST, _SUCCESS_BONUS, _LOSS = 20.0, 2.0, 0.02, 5.0, 5.0


class Task:
    """B episodes of bringing the scene's first marker, the object, to a goal.

    Args:
        perception: Scene, tokenizer and readout of the bundle.
        num_envs: B.
        obs_type: "pose", "latent", "latent16" (the latent as float16: half the memory in a buffer) or "rgb".
        reward_type: "dense", "sparse" or "progress".
        reward_fn: Replaces the reward, not the ends: from an `Outcome` to B finite numbers.
        goal: (x, y) in metres of every episode's goal; drawn anew for each when None.
        max_episode_steps: Time limit; the scene's when None.
        to_torch: Show the user's `reward_fn` tensors on the perception's device instead of arrays.

    What goes in and comes out are tensors on the perception's device; `to_numpy` makes arrays of them.

    Attributes:
        goals: Where the object shall go, metres, (B, 2).
        steps: Steps since the start of each episode, (B,).

    Raises:
        ValueError: If an argument is unknown or impossible, or the bundle has no readout to support it.
    """

    def __init__(
        self,
        perception: Perception,
        num_envs: int = 1,
        obs_type: str = "pose",
        reward_type: str = "dense",
        reward_fn: RewardFunction | None = None,
        goal: ArrayLike | None = None,
        max_episode_steps: int | None = None,
        to_torch: bool = False,
    ):
        self.scene = scene = perception.scene
        for name, value, known in (("obs_type", obs_type, OBS_TYPES), ("reward_type", reward_type, REWARD_TYPES)):
            if value not in known:
                raise ValueError(f"unknown {name} {value!r}; expected one of {known}")
        if max_episode_steps is not None and max_episode_steps < 1:
            raise ValueError(f"max_episode_steps must be at least 1, got {max_episode_steps}")
        self._sight = Sight(perception, num_envs)
        self.sees = bool(self._sight.names)
        if not self.sees and (obs_type == "pose" or reward_fn is None or goal is not None):
            raise ValueError(
                f"the bundle of scene {scene.name!r} was made from data without positions, so it knows no poses and no "
                'goals: use obs_type="latent" or "rgb", and pass a reward_fn of latents or frames'
            )
        self.perception, self.obs_type, self.reward_type, self.reward_fn = perception, obs_type, reward_type, reward_fn
        self.max_episode_steps = max_episode_steps or scene.episode_steps
        self.device = perception.device
        self._to_torch = to_torch
        self.goals = torch.zeros(num_envs, 2, device=self.device)
        self.steps = torch.zeros(num_envs, dtype=torch.int64, device=self.device)
        if self.sees:
            low, high = (
                torch.tensor(ends, dtype=torch.float64) for ends in (scene.workspace_low, scene.workspace_high)
            )
            edge = EDGE * (high - low)
            self._workspace = low.to(self.device), high.to(self.device)
            self._table = (low - edge).to(self.device), (high + edge).to(self.device)
            # Of observed positions: the workspace and a little more.
            self._bounds = (low - 2 * edge).float().to(self.device), (high + 2 * edge).float().to(self.device)
            self._diagonal = float((high - low).norm())
        self.action_space = spaces.Box(np.array(scene.action_low, np.float32), np.array(scene.action_high, np.float32))
        self.observation_space = self._observation_space()
        self._action_bounds = tuple(
            torch.tensor(bound, device=self.device) for bound in (self.action_space.low, self.action_space.high)
        )
        if isinstance(self.observation_space, spaces.Dict):
            pose = self.observation_space["observation"]
            self._pose_bounds = tuple(torch.tensor(bound, device=self.device) for bound in (pose.low, pose.high))  # type: ignore[attr-defined]
        self._goal = None if goal is None else self.check_goals(goal, 1)[0]

    @property
    def has_compute_reward(self) -> bool:
        """Whether rewards follow from achieved and desired goals in the observation, as goal environments promise."""
        return self.obs_type == "pose" and self.reward_fn is None and self.reward_type != "progress"

    @property
    def goal_area(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Corners (x, y) in metres of where goals are drawn: off the walls, so that the object can be pushed there."""
        low, high = np.array(self.scene.workspace_low), np.array(self.scene.workspace_high)
        margin = np.minimum(3 * self.scene.goal_radius, (high - low) / 4)
        return low + margin, high - margin

    def start(
        self, slots: Tensor, latents: Tensor, generators: list[np.random.Generator], goals: Any = None
    ) -> tuple[Any, dict[str, Tensor]]:
        """Begin new episodes in b of the environments.

        Args:
            slots: Which, indices (b,).
            latents: Their newest latents, oldest first, (b, K, C, h, w); from two or more of them velocities are known.
            generators: One per slot; draws the goal.
            goals: (x, y) in metres for all or (b, 2), instead of drawn ones.

        Returns:
            Observations and infos of these b environments.
        """
        chosen = None if goals is None else self.check_goals(goals, len(slots))
        self.steps = self.steps.index_fill(0, slots, 0)
        self._sight.begin(latents[:, [max(0, latents.shape[1] - 2), -1]], slots)
        if chosen is None and self._goal is not None:
            chosen = self._goal.expand(len(slots), 2)
        if chosen is None and self.sees:
            objects = self._sight.positions[slots, 0].cpu().numpy()
            drawn = [self._draw_goal(rng, place) for rng, place in zip(generators, objects, strict=True)]
            chosen = self._tensor(np.array(drawn), torch.float32)
        if chosen is not None:
            self.goals = self.goals.index_copy(0, slots, chosen)
        info = {key: value[slots] for key, value in self._info().items()}
        return self.observe(latents[:, -1], slots), info

    def advance(
        self, latents: Tensor, actions: Tensor, located: Located | None = None
    ) -> tuple[Any, Tensor, Tensor, Tensor, dict[str, Tensor]]:
        """Judge one step of all environments.

        Args:
            latents: The newest latents, (B, C, h, w).
            actions: What led to them, (B, A).
            located: What is in them, if that is known already; read from them if not.

        Returns:
            Observations, rewards, terminated, truncated, infos.
        """
        before = self._sight.by_name() if self.reward_fn is not None else {}
        earlier = self._sight.positions
        self._sight.look(latents, located)
        self.steps = self.steps + 1
        observation, info = self.observe(latents), self._info()
        truncated = self.steps >= self.max_episode_steps
        if self.sees:
            achieved = self._achieved().double()
            terminated = info["is_success"] | self._left(achieved)
            lost = ~self._sight.seen[:, 0]
        else:
            terminated = torch.zeros_like(truncated)
            lost = ~latents.flatten(1).isfinite().all(dim=1)
        if self.reward_fn is None and self.reward_type == "progress":
            rewards = self._progress(earlier, info["is_success"], self._left(achieved))
        elif self.reward_fn is None:
            rewards = self._reward(achieved, self.goals.double())
        else:
            goals = self.goals.clone() if self.sees else None
            shown = (actions, self._sight.by_name(), before, goals)
            if not self._to_torch:
                shown = to_numpy(shown)
            rewards = checked_rewards(self.reward_fn(Outcome(latents, *shown, self.perception.decode)), lost)
        return observation, rewards, terminated, truncated | lost, info

    def observe(self, latents: Tensor, slots: Tensor | None = None) -> Any:
        """The current observations of some environments (all when None), from their newest latents (b, C, h, w)."""
        if self.obs_type == "rgb":
            return self.perception.decode(latents)
        if self.obs_type in _LATENT_DTYPES:
            return latents.nan_to_num(0.0).clamp(-LATENT_LIMIT, LATENT_LIMIT).to(_LATENT_DTYPES[self.obs_type])
        pose = torch.cat([self._sight.positions, self._sight.velocities()], dim=1).flatten(1).clamp(*self._pose_bounds)
        whole = {  # in the order of the space, which sorts its keys
            "achieved_goal": self._achieved(),
            "desired_goal": self.goals.clone(),
            "observation": pose,
        }
        return whole if slots is None else {key: value[slots] for key, value in whole.items()}

    def compute_reward(
        self, achieved_goal: ArrayLike | Tensor, desired_goal: ArrayLike | Tensor, info: Any = None
    ) -> Any:
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
        achieved, desired = (self._tensor(goal, torch.float64) for goal in (achieved_goal, desired_goal))
        rewards = self._reward(achieved, desired)
        return rewards if isinstance(achieved_goal, Tensor) else rewards.cpu().numpy()[()]

    def check_actions(self, actions: ArrayLike | Tensor) -> Tensor:
        """Actions (B, A) as float32 on the perception's device, inside the bounds.

        Raises:
            ValueError: If the shape or device is another, or a value is not finite or out of bounds; names the
                environment.
        """
        if not isinstance(actions, Tensor):
            values = self._tensor(actions, torch.float32)
        elif actions.device.type != self.device.type:
            raise ValueError(f"expected actions on {self.device.type}, where the world model is, got {actions.device}")
        else:
            values = actions.float()
        low, high = self._action_bounds
        if values.shape != (len(self.steps), *low.shape):
            raise ValueError(f"expected actions of shape {(len(self.steps), *low.shape)}, got {tuple(values.shape)}")
        inside = (values >= low - 1e-6) & (values <= high + 1e-6)  # NaN is on neither side
        if not bool(inside.all()):
            index = int((~inside.all(dim=1)).nonzero()[0])
            raise ValueError(
                f"the action of environment {index} is {values[index].tolist()}, which is not within the bounds "
                f"{low.tolist()} and {high.tolist()}; clip it, and look for NaN in the policy"
            )
        return values.clamp(low, high)

    def check_goals(self, goals: Any, count: int) -> Tensor:
        """Goals (count, 2) from one (x, y) in metres or `count` of them.

        Raises:
            ValueError: If they have another shape or lie outside the workspace.
        """
        if not self.sees:
            raise ValueError(f"the bundle of scene {self.scene.name!r} knows no positions, so it can have no goal")
        values = self._tensor(goals, torch.float32)
        if values.shape not in ((2,), (count, 2)):
            raise ValueError(f"a goal is (x, y) in metres, one or {count} of them; got shape {tuple(values.shape)}")
        low, high = self._workspace
        if not bool(((values >= low.float()) & (values <= high.float())).all()):
            raise ValueError(
                f"goals must lie in the workspace from {low.tolist()} to {high.tolist()} metres, got {values.tolist()}"
            )
        return values.expand(count, 2)

    def draw_goal_marker(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Frames (B, H, W, 3) with a green ring of the goal radius around each goal, where the scene has a camera."""
        if not self.sees or self.scene.camera is None:
            return frames
        height, width = self.scene.image_size
        goals = self.goals.cpu().numpy()
        centre = self.scene.to_pixels(goals)
        rim = self.scene.to_pixels(goals + np.array([self.scene.goal_radius, 0.0]))
        rows, columns = np.ogrid[:height, :width]
        distance = np.hypot(columns - centre[:, :1, None], rows - centre[:, 1:, None])  # (B, H, W)
        ring = np.abs(distance - (rim - centre)[:, :1, None]) < max(0.75, height / 128)
        return np.where(ring[..., None], np.array([30, 200, 60], np.uint8), frames)

    def _observation_space(self) -> spaces.Space[Any]:
        if self.obs_type == "rgb":
            return spaces.Box(0, 255, (*self.scene.image_size, 3), np.uint8)
        if self.obs_type in _LATENT_DTYPES:
            return spaces.Box(
                -LATENT_LIMIT,
                LATENT_LIMIT,
                self.perception.latent_shape,
                np.float16 if self.obs_type == "latent16" else np.float32,
            )
        low, high = (ends.cpu().numpy() for ends in self._bounds)
        count, speed = len(self.scene.markers), np.float32(self.scene.max_speed)
        velocity = np.full(2 * count, speed)
        place = spaces.Box(low, high)
        whole = spaces.Box(
            np.concatenate([np.tile(low, count), -velocity]), np.concatenate([np.tile(high, count), velocity])
        )
        return spaces.Dict({"observation": whole, "achieved_goal": place, "desired_goal": place})

    def _info(self) -> dict[str, Tensor]:
        """Infos in Gymnasium's vector form: for every key also a mask `_key` of the environments that have it."""
        if not self.sees:
            return {}
        positions, present = self._sight.positions, self._sight.seen
        info: dict[str, Tensor] = {}
        for index, name in enumerate(self._sight.names):
            info |= {f"{name}_position": positions[:, index].clone(), f"_{name}_position": present[:, index].clone()}
        at_goal = _distance(self._achieved().double(), self.goals.double()) < self.scene.goal_radius
        everywhere = torch.ones_like(at_goal)
        return info | {
            "goal": self.goals.clone(),
            "_goal": everywhere,
            "is_success": at_goal & present[:, 0],
            "_is_success": everywhere.clone(),
        }

    def _tensor(self, values: ArrayLike | Tensor, dtype: torch.dtype) -> Tensor:
        """Values of the user's on the perception's device."""
        if isinstance(values, Tensor):
            return values.to(self.device, dtype)
        return torch.tensor(np.asarray(values), dtype=dtype, device=self.device)  # a copy: theirs may be read-only

    def _achieved(self) -> Tensor:
        """Where the object is, kept within the bounds of the observation, (B, 2)."""
        return self._sight.positions[:, 0].clamp(*self._bounds)

    def _reward(self, achieved: Tensor, desired: Tensor) -> Tensor:
        """See `compute_reward`."""
        distance = _distance(achieved, desired)
        if self.reward_type == "sparse":
            reward = (distance < self.scene.goal_radius).double() - 1.0
        else:
            reward = -distance / self._diagonal
        return reward - self.scene.episode_steps * self._left(achieved).double()

    def _progress(self, earlier: Tensor, succeeded: Tensor, left: Tensor) -> Tensor:
        """How much nearer the object came to its goal, and the agent to the object, since `earlier` (B, N, 2)."""

        def gained(distance: Callable[[Tensor], Tensor]) -> Tensor:
            return distance(earlier.double()) - distance(self._sight.positions.double())

        reward = _OBJECT_PROGRESS * gained(lambda places: _distance(places[:, 0], self.goals.double())) - _STEP_COST
        agent = self.scene.agent_index
        if agent is not None:
            reward = reward + _AGENT_PROGRESS * gained(lambda places: _distance(places[:, agent], places[:, 0]))
        return reward + _SUCCESS_BONUS * succeeded - _LOSS * left

    def _left(self, achieved: Tensor) -> Tensor:
        """Whether the object is beyond the workspace by more than the edge, (...)."""
        low, high = self._table
        return ((achieved < low) | (achieved > high)).any(-1)

    def _draw_goal(self, generator: np.random.Generator, away_from: NDArray[np.float32]) -> NDArray[np.float64]:
        """A goal in the `goal_area` that is no success yet."""
        candidates = generator.uniform(*self.goal_area, (64, 2))
        distance = np.linalg.norm(candidates - away_from, axis=1)
        far = distance >= 2 * self.scene.goal_radius
        return np.asarray(candidates[far.argmax() if far.any() else distance.argmax()])


def _distance(achieved: Tensor, desired: Tensor) -> Tensor:
    """Metres between (..., 2) and (..., 2), the same to the last bit for one and for many."""
    across, along = (achieved - desired).unbind(-1)
    return (across * across + along * along).sqrt()


def to_numpy(tree: Any) -> Any:
    """The tensors of nested dicts and tuples as arrays."""
    if isinstance(tree, Tensor):
        return tree.cpu().numpy()
    if isinstance(tree, dict):
        return {key: to_numpy(value) for key, value in tree.items()}
    return tuple(to_numpy(value) for value in tree) if isinstance(tree, tuple) else tree


def unbatch(observation: Any, info: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Observation and info of a batch of one as those of a single environment; what it does not have is left out."""
    single = {k: v[0] for k, v in observation.items()} if isinstance(observation, dict) else observation[0]
    return single, infos_of(info, [0])[0]


def infos_of(info: dict[str, Any], slots: Sequence[int]) -> list[dict[str, Any]]:
    """Gymnasium's vector infos as one dict for each of some environments, without what they do not have."""
    infos: list[dict[str, Any]] = [{} for _ in slots]
    for key, values in info.items():
        if key.startswith("_"):
            continue
        present = info[f"_{key}"].tolist()
        values = values.tolist() if values.ndim == 1 else values
        for own, slot in zip(infos, slots, strict=True):
            if present[slot]:
                own[key] = values[slot]
    return infos
