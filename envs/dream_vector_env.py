"""A batch of dreams as one Gymnasium vector environment: every step is one network call for all of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ..precision import Compile, Precision
from ..rollout import DreamEngine
from ..world_model import WorldModel
from .reward import RewardFunction
from .starts import check_latents, check_options, default_kind, encode_frames, matching_contexts
from .task import Task, to_numpy

Step = tuple[Any, Any, Any, Any, dict[str, Any]]


class DreamVectorEnv(VectorEnv[Any, NDArray[np.float32], NDArray[Any]]):
    """`num_envs` independent dreams; spaces, rewards, ends and options of each are those of `DreamEnv`.

    `gymnasium.make_vec("CosmosDream-v0", num_envs=64)` makes it.

    **Autoreset.** A dream that ended is restarted as Gymnasium's `AutoresetMode` says:

    - `NEXT_STEP` (default): the step after the end ignores that dream's action and returns its new first observation
      with reward 0. The end's observation is returned by the step that ended.
    - `SAME_STEP`: the step that ended already returns the new first observation; the last one is in
      `infos["final_obs"]`, its infos in `infos["final_info"]`.
    - `DISABLED`: nothing restarts by itself; call `reset(options={"reset_mask": mask})` with a boolean array.

    **Seeds.** `reset(seed=s)` gives dream i the seed s + i, so that it dreams exactly what `DreamEnv` dreams after
    `reset(seed=s + i)`; a list gives each its own.

    **Tensors.** With `to_torch=True` actions are taken and observations, rewards, ends and infos are handed out as
    tensors on the model's device, without a copy to the host; "final_obs" is then a batch like the observations.

    Args:
        num_envs: Number of dreams, B.
        max_episode_steps: Time limit; the bundle's own (97 for the shipped ones) when None.
        world_model: A shipped bundle's name, a folder, "hf://owner/repository", or a loaded `WorldModel`.
        obs_type: "pose", "latent", "latent16" or "rgb".
        reward_type: "dense", "sparse" or "progress".
        reward_fn: A reward of your own instead: from an `Outcome` of the batch to B numbers.
        goal: Fixed goal (x, y) in metres; drawn for every episode when None.
        render_mode: None or "rgb_array".
        autoreset_mode: An `AutoresetMode` or its value.
        device: "auto", "cpu", "cuda", ...; a `WorldModel` that is passed in stays where it is.
        kind: Kind of stored contexts to start from; the first that shows the agent when None.
        dtype: Precision of dynamics and readout, "float32", "bfloat16" or "auto", as of `FastModule`.
        compile: Whether to compile them, True, False or "auto", as of `FastModule`.
        to_torch: Tensors instead of arrays.
        sample: Draw what a stochastic bundle leaves open, from each dream's own seed, instead of dreaming its mean.

    Attributes:
        engine: The `DreamEngine` that advances the dreams.
        task: What the dreams are judged by.

    Raises:
        ValueError: If an argument is unknown or the bundle does not support it.
        MemoryError: If there is no room for so many dreams; says how many there is room for.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 (as in the base class)

    def __init__(
        self,
        num_envs: int = 1,
        max_episode_steps: int | None = None,
        world_model: str | os.PathLike[str] | WorldModel = "default",
        obs_type: str = "pose",
        reward_type: str = "dense",
        reward_fn: RewardFunction | None = None,
        goal: ArrayLike | None = None,
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        device: str | torch.device = "auto",
        kind: str | None = None,
        dtype: Precision = "auto",
        compile: Compile = "auto",
        to_torch: bool = False,
        sample: bool = False,
    ):
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, got {num_envs}")
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"unknown render_mode {render_mode!r}; expected None or 'rgb_array'")
        model = world_model if isinstance(world_model, WorldModel) else WorldModel.load(world_model, device)
        self.world_model = model
        self.engine = DreamEngine(model, num_envs, dtype, compile, look=True)
        if sample and not self.engine.noise_dim:
            raise ValueError("sample=True, but the bundle's dynamics is deterministic: there is nothing to sample")
        self._sample = sample
        self.task = Task(
            model.perception,
            num_envs,
            obs_type,
            reward_type,
            reward_fn,
            goal,
            max_episode_steps,
            to_torch=to_torch,
        )
        self._kind = kind or default_kind(model)
        matching_contexts(model.contexts, self._kind)  # an unknown kind is an error now, not at the first reset
        self.num_envs, self.render_mode, self.to_torch = num_envs, render_mode, to_torch
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = self.metadata | {
            "autoreset_mode": self.autoreset_mode,
            "render_fps": round(model.scene.control_hz),
        }
        self.single_action_space = self.task.action_space
        self.single_observation_space = self.task.observation_space
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.generators = [seeding.np_random()[0] for _ in range(num_envs)]
        self._done = torch.zeros(num_envs, dtype=torch.bool, device=model.device)
        self._started = False

    @property
    def context(self) -> Tensor:
        """The newest K latents of every dream, oldest first, (B, K, C, h, w); what a planner starts from."""
        return self.engine.context

    @property
    def compute_reward(self) -> Any:
        """`Task.compute_reward`; absent unless rewards follow from observed goals (pose; dense or sparse)."""
        if not self.task.has_compute_reward:
            raise AttributeError('compute_reward needs obs_type="pose", no reward_fn and no reward_type="progress"')
        return self.task.compute_reward

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Start new dreams from real contexts.

        Args:
            seed: Dream i gets `seed + i`, or the i-th of a list; None goes on with the random numbers so far.
            options: As of `DreamEnv.reset`; "episode" and "start" may be B numbers, "goal" (B, 2) and "frames"
                (B, K, H, W, 3), "latents" (B, K, C, h, w). "reset_mask", a boolean array (B,), restarts only some.

        Raises:
            ValueError: If an option is unknown or impossible.
        """
        options = check_options(options, ("episode", "start", "goal", "frames", "latents", "reset_mask"))
        seeds: Sequence[int | None]
        if seed is None or isinstance(seed, int | np.integer):
            seeds = [None if seed is None else int(seed) + i for i in range(self.num_envs)]
        else:
            seeds = seed
        if len(seeds) != self.num_envs:
            raise ValueError(f"expected one seed or {self.num_envs} of them, got {len(seeds)}")
        mask = options.get("reset_mask", np.ones(self.num_envs, bool))
        mask = mask.cpu().numpy() if isinstance(mask, Tensor) else np.asarray(mask)
        if mask.dtype != bool or mask.shape != (self.num_envs,) or not mask.any():
            raise ValueError(
                f'options["reset_mask"] must be a boolean array of shape ({self.num_envs},) with at least one True, '
                f"got {mask.dtype} of shape {mask.shape}"
            )
        if not (self._started or mask.all()):
            raise ResetNeeded("the first reset must be of all dreams, without a reset_mask")
        slots = np.flatnonzero(mask)
        for slot in slots.tolist():
            if seeds[slot] is not None:
                self.generators[slot] = seeding.np_random(seeds[slot])[0]
        observation, info = self._begin(slots, options)
        self._done &= torch.from_numpy(~mask).to(self._done.device)
        self._started = True
        if not mask.all():
            observation = self.task.observe(self.context[:, -1])
            nothing = {key: value.new_zeros(self.num_envs, *value.shape[1:]) for key, value in info.items()}
            info = _merged_info(nothing, info, self._indices(slots))
        return (observation, info) if self.to_torch else (to_numpy(observation), to_numpy(info))

    def step(self, actions: NDArray[np.float32] | Tensor) -> Step:
        """Advance every dream by one control step.

        Args:
            actions: In the scene's units, (B, A); a tensor on the model's device will do in any mode.

        Raises:
            ValueError: If an action is not finite or out of bounds; names the environment.
            ResetNeeded: Before the first `reset`, or if an ended dream was not reset with autoreset disabled.
        """
        if self.autoreset_mode == AutoresetMode.DISABLED and bool(self._done.any()):
            raise ResetNeeded(
                f"dreams {self._done.nonzero().flatten().tolist()} have ended: "
                "call reset(options={'reset_mask': ...})"
            )
        observation, rewards, terminated, truncated, info = self.advance(actions)
        ended = terminated | truncated
        restarted = torch.zeros_like(ended)
        final: dict[str, Any] = {}
        if self.autoreset_mode == AutoresetMode.NEXT_STEP:
            restarted = self._done
            rewards = rewards.masked_fill(restarted, 0.0)
            terminated, truncated, ended = terminated & ~restarted, truncated & ~restarted, ended & ~restarted
        elif self.autoreset_mode == AutoresetMode.SAME_STEP:
            restarted = ended
            if bool(ended.any()):
                final = {"final_obs": observation, "final_info": _masked(info, ended)}
                final |= {"_final_obs": ended.clone(), "_final_info": ended.clone()}
        self._done = ended
        slots = restarted.nonzero().flatten()
        if len(slots):
            first, first_info = self._begin(slots.cpu().numpy(), {})
            observation, info = _merged(observation, first, slots), _merged_info(info, first_info, slots)
        results = observation, rewards, terminated, truncated, info | final
        if self.to_torch:
            return results
        results = to_numpy(results)
        if final:
            results[-1]["final_obs"] = _one_by_one(results[-1]["final_obs"], results[-1]["_final_obs"])
        return results

    def advance(self, actions: ArrayLike | Tensor) -> Step:
        """One step of every dream without any restart, in tensors: what `step` and `DreamEnv` are made of."""
        if not self._started:
            raise ResetNeeded("call reset() before the first step")
        checked = self.task.check_actions(actions)
        dreamed = self.engine.step(checked, self._noise() if self._sample else None)
        observation, rewards, terminated, truncated, info = self.task.advance(dreamed.latent, checked, dreamed.located)
        self._add("dream_step", self.task.steps.clone(), info)
        if dreamed.uncertainty is not None:
            self._add("uncertainty", dreamed.uncertainty, info)
        return observation, rewards, terminated, truncated, info

    def _noise(self) -> Tensor:
        """Standard normal (B, Z), a row from each dream's own generator."""
        rows = [generator.standard_normal(self.engine.noise_dim, np.float32) for generator in self.generators]
        return torch.from_numpy(np.stack(rows)).to(self.context.device)

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:  # type: ignore[override]
        """The decoded newest latent of every dream with its goal marked, B frames (H, W, 3); None without a mode."""
        if self.render_mode is None:
            return None
        frames = self.world_model.decode(self.context[:, -1]).cpu().numpy()
        return tuple(self.task.draw_goal_marker(frames))

    def _indices(self, slots: NDArray[np.int64]) -> Tensor:
        """Slots as a tensor that indexes the dreams."""
        return torch.from_numpy(slots).to(self.context.device)

    def _begin(self, slots: NDArray[np.int64], options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Load contexts and goals into some dreams; their first observations and infos, in tensors."""
        generators = [self.generators[slot] for slot in slots]
        context = self._contexts(slots, generators, options).to(self.context)
        goals = options.get("goal")
        if goals is not None and np.ndim(goals) == 2:
            goals = self.task.check_goals(goals, self.num_envs)[slots]
        indices = self._indices(slots)
        observation, info = self.task.start(indices, context, generators, goals)
        self.engine.reset(context, indices)
        self._add("dream_step", self.task.steps[indices], info)
        return observation, info

    def _contexts(
        self, slots: NDArray[np.int64], generators: list[np.random.Generator], options: dict[str, Any]
    ) -> Tensor:
        """Real contexts for some dreams: the user's frames, the ones asked for, or drawn ones; (b, K, C, h, w)."""
        stored_one = "episode" in options or "start" in options
        if stored_one + ("frames" in options) + ("latents" in options) > 1:
            raise ValueError('pass one of options["frames"], ["latents"] and ["episode"], not both')
        if "latents" in options:
            shape = tuple(self.context.shape[1:])
            return check_latents(options["latents"], shape, self.num_envs)[slots]
        if "frames" in options:
            length = self.world_model.dynamics.context_length
            return encode_frames(self.world_model.perception, options["frames"], length, self.num_envs)[slots]
        stored = self.world_model.contexts
        # One look-up serves all dreams that ask for the same.
        asked = [np.broadcast_to(options.get(key, -1), self.num_envs)[slots].tolist() for key in ("episode", "start")]
        wanted = list(zip(*asked, strict=True))
        choices = {
            (episode, start): matching_contexts(
                stored,
                self._kind,
                episode if "episode" in options else None,
                start if "start" in options else None,
            )
            for episode, start in set(wanted)
        }
        drawn = [rng.choice(choices[key]) for rng, key in zip(generators, wanted, strict=True)]
        return stored.latents[torch.tensor(drawn)].float()

    @staticmethod
    def _add(key: str, value: Tensor, info: dict[str, Any]) -> None:
        info[key], info[f"_{key}"] = value, torch.ones(len(value), dtype=torch.bool, device=value.device)


def _one_by_one(observation: Any, ended: NDArray[np.bool_]) -> NDArray[np.object_]:
    """The observations of those that ended as Gymnasium's "final_obs": an object array, None for the others."""
    last = np.full(len(ended), None, dtype=object)
    for slot in np.flatnonzero(ended):
        if isinstance(observation, dict):
            last[slot] = {key: value[slot].copy() for key, value in observation.items()}
        else:
            last[slot] = observation[slot].copy()
    return last


def _masked(info: dict[str, Tensor], mask: Tensor) -> dict[str, Tensor]:
    """Infos, and their masks, with zeros and False outside `mask`."""
    return {
        key: torch.where(mask.view(-1, *(1,) * (value.ndim - 1)), value, torch.zeros_like(value))
        for key, value in info.items()
    }


def _merged(observation: Any, some: Any, slots: Tensor) -> Any:
    """The batch's observations with those of some slots replaced."""
    if isinstance(observation, dict):
        return {key: _merged(value, some[key], slots) for key, value in observation.items()}
    return observation.index_copy(0, slots, some)


def _merged_info(info: dict[str, Tensor], some: dict[str, Tensor], slots: Tensor) -> dict[str, Tensor]:
    """The batch's infos with those of some slots replaced; a key that these do not have is masked out for them."""
    return {
        key: value.index_copy(0, slots, some[key]) if key in some else value.index_fill(0, slots, 0)
        for key, value in info.items()
    }
