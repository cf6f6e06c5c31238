"""The task that dream and real share: spaces, observations, rewards and ends, all from latents and the bundle's scene.

Both environments hand every newest latent to a `Task`, which reads it through the bundle's readout. So neither shows
its agent anything that was not seen in a picture, and what is learned in one means the same in the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ..perception import Perception
from .reward import Outcome, RewardFunction, checked_rewards
from .sight import Sight, Slots

OBS_TYPES = ("pose", "latent", "latent16", "rgb")
REWARD_TYPES = ("dense", "sparse")
_LATENT_DTYPES: dict[str, type[np.floating[Any]]] = {"latent": np.float32, "latent16": np.float16}
LATENT_LIMIT = 20.0  # latents have unit variance per channel; observations are clipped here, to have finite bounds
EDGE = 0.05  # share of the workspace by which the object may be outside before it has left


class Task:
    """B episodes of bringing the scene's first marker, the object, to a goal.

    Args:
        perception: Scene, tokenizer and readout of the bundle.
        num_envs: B.
        obs_type: "pose", "latent", "latent16" (the latent as float16: half the memory in a buffer) or "rgb".
        reward_type: "dense" or "sparse".
        reward_fn: Replaces the reward, not the ends: from an `Outcome` to B finite numbers.
        goal: (x, y) in metres of every episode's goal; drawn anew for each when None.
        max_episode_steps: Time limit; the scene's when None.

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
        self.goals = np.zeros((num_envs, 2), np.float32)
        self.steps = np.zeros(num_envs, np.int64)
        if self.sees:
            low, high = np.array(scene.workspace_low), np.array(scene.workspace_high)
            self._low, self._high, self._edge = low, high, EDGE * (high - low)
            self._diagonal = float(np.linalg.norm(high - low))
        self.action_space = spaces.Box(np.array(scene.action_low, np.float32), np.array(scene.action_high, np.float32))
        self.observation_space = self._observation_space()
        self._goal = None if goal is None else self.check_goals(goal, 1)[0]

    @property
    def has_compute_reward(self) -> bool:
        """Whether rewards follow from achieved and desired goals in the observation, as goal environments promise."""
        return self.obs_type == "pose" and self.reward_fn is None

    def start(
        self, slots: NDArray[np.int64], latents: Tensor, generators: list[np.random.Generator], goals: Any = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin new episodes in b of the environments.

        Args:
            slots: Which, (b,).
            latents: Their two newest latents, older first, (b, 2, C, h, w).
            generators: One per slot; draws the goal.
            goals: (x, y) in metres for all or (b, 2), instead of drawn ones.

        Returns:
            Observations and infos of these b environments.
        """
        if goals is not None:
            goals = self.check_goals(goals, len(slots))
        self.steps[slots] = 0
        self._sight.forget(slots)
        self._sight.look(latents[:, 0], slots)
        self._sight.look(latents[:, 1], slots)
        if goals is not None:
            self.goals[slots] = goals
        elif self._goal is not None:
            self.goals[slots] = self._goal
        elif self.sees:
            for slot, generator in zip(slots, generators, strict=True):
                self.goals[slot] = self._draw_goal(generator, self._sight.positions[slot, 0])
        return self.observe(latents[:, 1], slots), self._info(slots)

    def advance(
        self, latents: Tensor, actions: NDArray[np.float32]
    ) -> tuple[Any, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Judge one step of all environments.

        Args:
            latents: The newest latents, (B, C, h, w).
            actions: What led to them, (B, A).

        Returns:
            Observations, rewards, terminated, truncated, infos.
        """
        before = self._sight.by_name()
        self._sight.look(latents)
        self.steps += 1
        observation, info = self.observe(latents), self._info()
        truncated = self.steps >= self.max_episode_steps
        if self.sees:
            achieved = self._achieved()
            terminated = info["is_success"] | self._left(achieved)
            lost = ~self._sight.seen[:, 0]
        else:
            terminated = np.zeros(len(self.steps), bool)
            lost = ~latents.flatten(1).isfinite().all(dim=1).cpu().numpy()
        if self.reward_fn is None:
            rewards = np.asarray(self.compute_reward(achieved, self.goals, info))
        else:
            goals = self.goals.copy() if self.sees else None
            outcome = Outcome(latents, actions, self._sight.by_name(), before, goals, self.perception.decode)
            rewards = checked_rewards(self.reward_fn(outcome), lost)
        return observation, rewards, terminated, truncated | lost, info

    def observe(self, latents: Tensor, slots: Slots = slice(None)) -> Any:
        """The current observations of some environments, from their newest latents (b, C, h, w)."""
        if self.obs_type == "rgb":
            return self.perception.decode(latents).cpu().numpy()
        if self.obs_type in _LATENT_DTYPES:
            bounded = latents.nan_to_num(0.0).clamp(-LATENT_LIMIT, LATENT_LIMIT)
            return bounded.cpu().numpy().astype(_LATENT_DTYPES[self.obs_type], copy=False)
        space = self.observation_space["observation"]  # type: ignore[index]
        pose = np.concatenate([self._sight.positions[slots], self._sight.velocities(slots)], axis=1)
        return {  # in the order of the space, which sorts its keys
            "achieved_goal": self._achieved(slots),
            "desired_goal": self.goals[slots].copy(),
            "observation": np.clip(pose.reshape(len(pose), -1), space.low, space.high),
        }

    def compute_reward(self, achieved_goal: ArrayLike, desired_goal: ArrayLike, info: Any = None) -> Any:
        """The reward of being at `achieved_goal` (..., 2) when `desired_goal` (..., 2) was meant, both in metres.

        Sparse: 0 within the goal radius, else -1. Dense: minus the distance as a share of the workspace's diagonal,
        so also in [-1, 0]. Where the object has left the workspace, a whole episode of -1 on top: ending an episode
        that way must never pay.

        Args:
            achieved_goal: Where the object is.
            desired_goal: Where it should be.
            info: Ignored; part of the goal environments' signature.

        Returns:
            Rewards (...), float64.
        """
        achieved, distance = np.asarray(achieved_goal, np.float64), _distance(achieved_goal, desired_goal)
        if self.reward_type == "sparse":
            reward = (distance < self.scene.goal_radius) - 1.0
        else:
            reward = -distance / self._diagonal
        return reward - self.scene.episode_steps * self._left(achieved)

    def check_actions(self, actions: ArrayLike) -> NDArray[np.float32]:
        """Actions (B, A) as float32, inside the bounds.

        Raises:
            ValueError: If the shape is another, or a value is not finite or out of bounds; names the environment.
        """
        space = self.action_space
        values = np.asarray(actions, dtype=np.float32)
        if values.shape != (len(self.steps), *space.shape):
            raise ValueError(f"expected actions of shape {(len(self.steps), *space.shape)}, got {values.shape}")
        inside = (values >= space.low - 1e-6) & (values <= space.high + 1e-6)  # NaN is on neither side
        if not inside.all():
            index = int(np.flatnonzero(~inside.all(axis=1))[0])
            raise ValueError(
                f"the action of environment {index} is {values[index].tolist()}, which is not within the bounds "
                f"{space.low.tolist()} and {space.high.tolist()}; clip it, and look for NaN in the policy"
            )
        return np.clip(values, space.low, space.high)

    def check_goals(self, goals: Any, count: int) -> NDArray[np.float32]:
        """Goals (count, 2) from one (x, y) in metres or `count` of them.

        Raises:
            ValueError: If they have another shape or lie outside the workspace.
        """
        if not self.sees:
            raise ValueError(f"the bundle of scene {self.scene.name!r} knows no positions, so it can have no goal")
        values = np.asarray(goals, dtype=np.float32)
        if values.shape not in ((2,), (count, 2)):
            raise ValueError(f"a goal is (x, y) in metres, one or {count} of them; got shape {values.shape}")
        if not ((values >= np.float32(self._low)) & (values <= np.float32(self._high))).all():
            raise ValueError(
                f"goals must lie in the workspace from {self._low.tolist()} to {self._high.tolist()} metres, "
                f"got {values.tolist()}"
            )
        return np.broadcast_to(values, (count, 2))

    def draw_goal_marker(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Frames (B, H, W, 3) with a green ring of the goal radius around each goal, where the scene has a camera."""
        if not self.sees or self.scene.camera is None:
            return frames
        height, width = self.scene.image_size
        centre = self.scene.to_pixels(self.goals)
        rim = self.scene.to_pixels(self.goals + np.array([self.scene.goal_radius, 0.0]))
        rows, columns = np.ogrid[:height, :width]
        distance = np.hypot(columns - centre[:, :1, None], rows - centre[:, 1:, None])  # (B, H, W)
        ring = np.abs(distance - (rim - centre)[:, :1, None]) < max(0.75, height / 128)
        return np.where(ring[..., None], np.array([30, 200, 60], np.uint8), frames)

    def _observation_space(self) -> spaces.Space[Any]:
        if self.obs_type == "rgb":
            return spaces.Box(0, 255, (*self.scene.image_size, 3), np.uint8)
        if self.obs_type in _LATENT_DTYPES:
            return spaces.Box(-LATENT_LIMIT, LATENT_LIMIT, self.perception.latent_shape, _LATENT_DTYPES[self.obs_type])
        low, high = np.float32(self._low - 2 * self._edge), np.float32(self._high + 2 * self._edge)
        count, speed = len(self.scene.markers), np.float32(self.scene.max_speed)
        velocity = np.full(2 * count, speed)
        place = spaces.Box(low, high)
        whole = spaces.Box(
            np.concatenate([np.tile(low, count), -velocity]), np.concatenate([np.tile(high, count), velocity])
        )
        return spaces.Dict({"observation": whole, "achieved_goal": place, "desired_goal": place})

    def _info(self, slots: Slots = slice(None)) -> dict[str, NDArray[Any]]:
        """Infos in Gymnasium's vector form: for every key also a mask `_key` of the environments that have it."""
        info: dict[str, NDArray[Any]] = {}
        if not self.sees:
            return info
        positions, present = self._sight.positions[slots], self._sight.seen[slots]
        for index, name in enumerate(self._sight.names):
            info |= {f"{name}_position": positions[:, index], f"_{name}_position": present[:, index]}
        goals, everywhere = self.goals[slots], np.ones(len(present), bool)
        at_goal = _distance(self._achieved(slots), goals) < self.scene.goal_radius
        info |= {"goal": goals, "_goal": everywhere}
        info |= {"is_success": at_goal & present[:, 0], "_is_success": everywhere}
        return {key: value.copy() for key, value in info.items()}

    def _achieved(self, slots: Slots = slice(None)) -> NDArray[np.float32]:
        """Where the object is, kept within the bounds of the observation, (b, 2)."""
        return np.clip(
            self._sight.positions[slots, 0],
            np.float32(self._low - 2 * self._edge),
            np.float32(self._high + 2 * self._edge),
        )

    def _left(self, achieved: NDArray[Any]) -> NDArray[np.bool_]:
        """Whether the object is beyond the workspace by more than the edge, (...)."""
        return np.asarray(((achieved < self._low - self._edge) | (achieved > self._high + self._edge)).any(-1))

    def _draw_goal(self, generator: np.random.Generator, away_from: NDArray[np.float32]) -> NDArray[np.float64]:
        """A goal that can be pushed to (off the walls) and is no success yet."""
        margin = np.minimum(3 * self.scene.goal_radius, (self._high - self._low) / 4)
        candidates = generator.uniform(self._low + margin, self._high - margin, (64, 2))
        distance = np.linalg.norm(candidates - away_from, axis=1)
        far = distance >= 2 * self.scene.goal_radius
        return np.asarray(candidates[far.argmax() if far.any() else distance.argmax()])


def _distance(achieved: ArrayLike, desired: ArrayLike) -> NDArray[np.float64]:
    """Metres between (..., 2) and (..., 2), the same to the last bit for one and for many."""
    delta = np.asarray(achieved, np.float64) - np.asarray(desired, np.float64)
    return np.hypot(delta[..., 0], delta[..., 1])


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
