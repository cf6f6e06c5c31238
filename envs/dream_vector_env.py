"""How is a batch of dreams stepped? As one Gymnasium vector environment, with one network call for all of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Unpack

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
from ..worlds import Infos, Observation, Task
from .batches import for_all, masked, merged, merged_info, one_by_one, to_numpy
from .starts import START_OPTIONS, check_options, default_kind, matching_contexts, start_contexts
from .table_task import TableOptions, TableTask

TensorStep = tuple[Observation, Tensor, Tensor, Tensor, Infos]
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
        world_model: As of `DreamEnv`, and so are `render_mode`, `device`, `kind`, `dtype`, `sample` and the options of
            the task: `obs_type`, `reward_type`, `reward_fn` (one number for each of the B dreams), `goal`,
            `max_episode_steps`.
        render_mode: See there.
        autoreset_mode: An `AutoresetMode` or its value.
        device: See there.
        kind: See there.
        dtype: See there.
        compile: Whether to compile the networks, True, False or "auto", as of `FastModule`.
        to_torch: Tensors instead of arrays.
        sample: See there.
        options: Of the task, a `TableOptions`.

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
        world_model: str | os.PathLike[str] | WorldModel = "default",
        *,
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        device: str | torch.device = "auto",
        kind: str | None = None,
        dtype: Precision = "auto",
        compile: Compile = "auto",
        to_torch: bool = False,
        sample: bool = False,
        **options: Unpack[TableOptions],
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
        self.task: Task = TableTask(model.perception, num_envs, to_torch=to_torch, **options)
        self._kind = kind or default_kind(model)
        matching_contexts(model.contexts, self._kind)  # an unknown kind is an error now, not at the first reset
        self.num_envs, self.render_mode, self.to_torch = num_envs, render_mode, to_torch
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        fps = round(model.scene.control_hz)
        self.metadata = self.metadata | {"autoreset_mode": self.autoreset_mode, "render_fps": fps}
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
    def compute_reward(self) -> Callable[..., Tensor | NDArray[np.float64]]:
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
        options = check_options(options, (*START_OPTIONS, *self.task.reset_options, "reset_mask"))
        mask = self._reset_mask(options.pop("reset_mask", None))
        seeds = [None] * self.num_envs if seed is None else seed
        if isinstance(seeds, int | np.integer):
            seeds = [int(seeds) + i for i in range(self.num_envs)]
        if len(seeds) != self.num_envs:
            raise ValueError(f"expected one seed or {self.num_envs} of them, got {len(seeds)}")
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
            info = merged_info(nothing, info, self._indices(slots))
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
            ended_ones = self._done.nonzero().flatten().tolist()
            raise ResetNeeded(f"dreams {ended_ones} have ended: call reset(options={{'reset_mask': ...}})")
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
                final = {"final_obs": observation, "final_info": masked(info, ended)}
                final |= {"_final_obs": ended.clone(), "_final_info": ended.clone()}
        self._done = ended
        slots = restarted.nonzero().flatten()
        if len(slots):
            first, first_info = self._begin(slots.cpu().numpy(), {})
            observation, info = merged(observation, first, slots), merged_info(info, first_info, slots)
        results = observation, rewards, terminated, truncated, {**info, **final}
        if self.to_torch:
            return results
        arrays: Step = to_numpy(results)
        if final:
            arrays[-1]["final_obs"] = one_by_one(arrays[-1]["final_obs"], arrays[-1]["_final_obs"])
        return arrays

    def advance(self, actions: ArrayLike | Tensor) -> TensorStep:
        """One step of every dream without any restart, in tensors: what `step` and `DreamEnv` are made of."""
        if not self._started:
            raise ResetNeeded("call reset() before the first step")
        checked = self.task.check_actions(actions)
        dreamed = self.engine.step(checked, self._noise() if self._sample else None)
        observation, rewards, terminated, truncated, info = self.task.advance(dreamed.latent, checked, dreamed.located)
        info |= for_all("dream_step", self.task.steps.clone())
        if dreamed.uncertainty is not None:
            info |= for_all("uncertainty", dreamed.uncertainty)
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
        return tuple(self.task.annotate(frames))

    def _reset_mask(self, asked: Any) -> NDArray[np.bool_]:
        """Which dreams to reset, (B,); all when it is not said.

        Raises:
            ValueError: If it is no such mask.
            ResetNeeded: If dreams would be left that never began.
        """
        mask = np.ones(self.num_envs, bool) if asked is None else asked
        mask = mask.cpu().numpy() if isinstance(mask, Tensor) else np.asarray(mask)
        if mask.dtype != bool or mask.shape != (self.num_envs,) or not mask.any():
            raise ValueError(
                f'options["reset_mask"] must be a boolean array of shape ({self.num_envs},) with at least one True, '
                f"got {mask.dtype} of shape {mask.shape}"
            )
        if not (self._started or mask.all()):
            raise ResetNeeded("the first reset must be of all dreams, without a reset_mask")
        return mask

    def _indices(self, slots: NDArray[np.int64]) -> Tensor:
        """Slots as a tensor that indexes the dreams."""
        return torch.from_numpy(slots).to(self.context.device)

    def _begin(self, slots: NDArray[np.int64], options: Mapping[str, Any]) -> tuple[Observation, Infos]:
        """Load contexts and goals into some dreams; their first observations and infos, in tensors."""
        generators = [self.generators[slot] for slot in slots]
        context = start_contexts(self.world_model, self._kind, slots, generators, options, self.num_envs)
        context, indices = context.to(self.context), self._indices(slots)
        observation, info = self.task.start(indices, context, generators, options)
        self.engine.reset(context, indices)
        return observation, info | for_all("dream_step", self.task.steps[indices])
