"""How is a batch of dreams stepped? As one Gymnasium vector environment, with one network call for all of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Unpack

import numpy as np
import torch
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from torch import Tensor

from ..borders import integer, ours
from ..counter_rng import mixed, normal
from ..precision import Compile, FastCall, Precision
from ..rollout import DreamEngine, pieces
from ..world_model import WorldModel
from ..worlds import Observation, Task
from .batches import as_gymnasium_has_it, for_all, masked, refuse_ended, selected, to_numpy
from .reward import NO_COMPUTE_REWARD
from .spec import InMemory, WithSpec, loaded
from .starts import START_OPTIONS, Starts, asked_contexts, check_options, default_kind, one_seed_each, reset_mask
from .state import WithState
from .table_task import TableOptions
from .tasks import dream_task

_CONTEXT, _GOAL, _NOISE = range(3)  # what an episode's key is mixed with for its draws
_CHECKED_EVERY = 64  # steps in tensors after which it is looked at what they let pass
TensorStep = tuple[Observation, Tensor, Tensor, Tensor, dict[str, Any]]
Step = tuple[Any, Any, Any, Any, dict[str, Any]]


class DreamVectorEnv(WithSpec, WithState, VectorEnv[Any, NDArray[np.float32], NDArray[Any]]):
    """`num_envs` independent dreams; spaces, rewards, ends and options of each are those of `DreamEnv`.

    `gymnasium.make_vec("CosmosDream-v0", num_envs=64)` makes it.

    **Autoreset.** A dream that ended is restarted as Gymnasium's `AutoresetMode` says:

    - `NEXT_STEP` (default): the step after the end ignores that dream's action and returns its new first observation
      with reward 0. The end's observation is returned by the step that ended.
    - `SAME_STEP`: the step that ended already returns the new first observation; the last one is in
      `infos["final_obs"]`, its infos in `infos["final_info"]`.
    - `DISABLED`: nothing restarts by itself; call `reset(options={"reset_mask": mask})` with a boolean array.

    **Seeds.** `reset(seed=s)` gives dream i the seed s + i, so that it dreams exactly what `DreamEnv` dreams after
    `reset(seed=s + i)`; a list gives each its own. All that is drawn (contexts, goals, noise) is a function of the
    seed, the episode and the step (`counter_rng`): the same on every device, alone and in a batch.

    **Tensors.** With `to_torch=True` actions are taken and observations, rewards, ends and infos are handed out as
    tensors on the model's device, without a copy to the host or a look at them there: a step, restarts included, is
    tensor work of static shape. So "final_obs" and "final_info" are always there with `SAME_STEP`, as batches, of
    meaning where "_final_obs" is true. Actions out of bounds are clipped (those that are not finite count as the middle
    of the range), and refused with a `ValueError` after at most 64 steps. With `DISABLED`, so is stepping on after an
    end. Call `check()` to be told at once.

    Args:
        num_envs: Number of dreams, B.
        world_model: As of `DreamEnv`, and so are `render_mode`, `device`, `kind`, `dtype`, `sample` and the options of
            the task: `obs_type`, `reward_type`, `reward_fn` (one number for each of the B dreams), `goal`,
            `max_episode_steps`, `trust`, `max_error`, `trust_weight`.
        render_mode: See there.
        autoreset_mode: An `AutoresetMode` or its value.
        device: See there.
        kind: See there.
        dtype: See there.
        compile: Whether to compile, True, False or "auto", as of `FastCall`. The whole step is compiled as one graph,
            or the networks alone where a `reward_fn` is in it, or a batch that a processor computes in pieces.
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

    @ours
    def __init__(
        self,
        num_envs: int = 1,
        world_model: str | os.PathLike[str] | WorldModel | InMemory = "default",
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
        num_envs = integer(num_envs, "num_envs")
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, got {num_envs}")
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"unknown render_mode {render_mode!r}; expected None or 'rgb_array'")
        model = loaded(world_model, device)
        self.world_model = model
        self._kind = kind or default_kind(model)
        self.task: Task = dream_task(model, num_envs, to_torch, self._kind, **options)
        self._starts = Starts(model, self._kind, self.task)
        whole = not self.task.asks_outside and len(pieces(model, num_envs)) == 1
        self.engine = DreamEngine(model, num_envs, dtype, False if whole else compile, True, self._starts.latents)
        self._fast_step = FastCall(self._step, num_envs, compile if whole else False, whole=True)
        if sample and not self.engine.noise_dim:
            raise ValueError("sample=True, but the bundle's dynamics is deterministic: there is nothing to sample")
        self._sample = sample
        self.num_envs, self.render_mode, self.to_torch = num_envs, render_mode, to_torch
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        fps = round(model.scene.control_hz)
        self.metadata = self.metadata | {"autoreset_mode": self.autoreset_mode, "render_fps": fps}
        self.single_action_space = self.task.action_space
        self.single_observation_space = self.task.observation_space
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._keys = torch.from_numpy(np.random.default_rng().integers(2**62, size=num_envs)).to(model.device)
        self._episodes = torch.zeros(num_envs, dtype=torch.int64, device=model.device)  # since the seed
        self._done, self._wrong, self._late = torch.zeros(3, num_envs, dtype=torch.bool, device=model.device)
        self._started, self._unchecked = False, 0

    @property
    def context(self) -> Tensor:
        """The newest K latents of every dream, oldest first, (B, K, C, h, w); what a planner starts from."""
        return self.engine.context

    @property
    def compute_reward(self) -> Callable[..., Tensor | NDArray[np.float64]]:
        """`Task.compute_reward`; absent unless rewards follow from observed goals."""
        if not self.task.has_compute_reward:
            raise AttributeError(NO_COMPUTE_REWARD)
        return self.task.compute_reward

    @ours
    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Start new dreams from real contexts.

        Args:
            seed: Dream i gets `seed + i`, or the i-th of a list; None goes on with the random numbers so far.
            options: As of `DreamEnv.reset`; "episode" and "start" may be B numbers, "goal" (B, 2), "frames"
                (B, K, H, W, 3), "latents" (B, K, C, h, w), "actions" (B, K - 1, A). "reset_mask", a boolean array
                (B,), restarts only some.

        Raises:
            ValueError: If an option is unknown or impossible.
        """
        options = check_options(options, (*START_OPTIONS, *self.task.reset_options, "reset_mask"))
        which, seeds = reset_mask(options.pop("reset_mask", None), self.num_envs), one_seed_each(seed, self.num_envs)
        if not (self._started or which.all()):
            raise ResetNeeded("the first reset must be of all dreams, without a reset_mask")
        mask = torch.from_numpy(which).to(self._done.device)
        before = self._keys.clone(), self._episodes.clone()
        for slot in np.flatnonzero(which).tolist():
            if (own := seeds[slot]) is not None:
                self._keys[slot], self._episodes[slot] = own % 2**62, 0
        try:
            self._start(mask, self._new_episodes(mask), options)
        except ValueError:  # what is refused changes nothing
            self._keys, self._episodes = before
            raise
        self._done &= ~mask
        self._started = True
        shown = self.task.observe(self.engine.newest), masked(self._infos(), mask)
        return shown if self.to_torch else to_numpy(shown)

    def _start(self, mask: Tensor, keys: Tensor, options: dict[str, Any]) -> None:
        """Start a mask (B,) of dreams with the keys of their episodes (B,), as the options ask."""
        asked = asked_contexts(self.world_model, self._kind, options, self.num_envs, keys)
        if asked is None:
            self._restart(mask, keys, options)
        else:
            context, past, slots = asked[0].to(self._done.device), asked[1], mask.nonzero().flatten()
            self.task.start(mask, self.task.glimpse(context, past), mixed(keys, _GOAL), options)
            self.engine.reset(context[slots], slots, None if past is None else past[slots])

    @ours
    def step(self, actions: NDArray[np.float32] | Tensor) -> Step:
        """Advance every dream by one control step.

        Args:
            actions: In the scene's units, (B, A); a tensor on the model's device will do in any mode. With `NEXT_STEP`
                what stands there for a dream that is restarted is not looked at.

        Raises:
            ValueError: If an action is not finite or out of bounds; names the environment. See "Tensors" above.
            ResetNeeded: Before the first `reset`, or if an ended dream was not reset with autoreset disabled.
        """
        self.must_have_started()
        restarting = self._done if self.autoreset_mode == AutoresetMode.NEXT_STEP else None
        if not (self.to_torch and isinstance(actions, Tensor)):
            checked = self.task.check_actions(actions, restarting)
            if self.autoreset_mode == AutoresetMode.DISABLED:
                refuse_ended(self._done)
        else:
            self._unchecked += 1
            if self._unchecked > _CHECKED_EVERY:
                self.check()
            checked, wrong = self.task.bound_actions(actions)
            self._wrong |= wrong if restarting is None else wrong & ~restarting
        results = self._fast_step(checked)
        return results if self.to_torch else as_gymnasium_has_it(results)

    @ours
    def check(self) -> None:
        """Look at what steps in tensors have let pass.

        Raises:
            ValueError: If an action was not finite or out of bounds.
            ResetNeeded: If autoreset is disabled and a dream went on after its end.
        """
        steps, wrong, late = self._unchecked, self._wrong.clone(), self._late.clone()
        self._unchecked = 0
        self._wrong.zero_(), self._late.zero_()
        refuse_ended(late)
        self.task.refuse_actions(wrong, steps)

    def _step(self, actions: Tensor) -> TensorStep:
        """One step of every dream and the restarts that it brings, in tensors of static shape."""
        observation, rewards, terminated, truncated, info = self.advance(actions)
        ended = terminated | truncated
        final: dict[str, Any] = {}
        restarted = self._done.clone()
        if self.autoreset_mode == AutoresetMode.NEXT_STEP:
            rewards = rewards.masked_fill(restarted, 0.0)
            terminated, truncated, ended = terminated & ~restarted, truncated & ~restarted, ended & ~restarted
        elif self.autoreset_mode == AutoresetMode.SAME_STEP:
            restarted = ended
            final = {"final_obs": observation, "final_info": masked(info, ended)}
            final |= {"_final_obs": ended.clone(), "_final_info": ended.clone()}
        else:
            self._late |= restarted
            restarted = torch.zeros_like(restarted)
        self._done.copy_(ended)
        if self.autoreset_mode != AutoresetMode.DISABLED:
            choice = self._restart(restarted, self._new_episodes(restarted))
            first = self._starts.first(choice)
            if first is None:  # what the task remembers is its own, whatever the latents
                memory_alone = self.task.observes == "memory"
                observation = self.task.observe(self._starts.latents[:, -1] if memory_alone else self.engine.newest)
            else:
                observation = selected(restarted, first, observation)
            unsure = {key: value for key, value in info.items() if key in ("uncertainty", "_uncertainty")}
            info = self._infos() | masked(unsure, ~restarted)
        return observation, rewards, terminated, truncated, {**info, **final}

    @ours
    def advance(self, actions: Tensor) -> TensorStep:
        """One step of every dream under checked actions, without any restart, in tensors."""
        noise = None
        if self._sample:
            steps = mixed(mixed(mixed(self._keys, self._episodes), _NOISE), self.task.steps)
            noise = normal(steps, self.engine.noise_dim)
        dreamed = self.engine.step(actions, noise)
        observation, rewards, terminated, truncated = self.task.advance(dreamed.latent, actions, dreamed.located)
        info = self._infos()
        if dreamed.uncertainty is not None:
            info |= for_all("uncertainty", dreamed.uncertainty)
        return observation, rewards, terminated, truncated, info

    def _new_episodes(self, which: Tensor) -> Tensor:
        """Count an episode more in a mask (B,) of dreams; the keys of all episodes, (B,)."""
        self._episodes += which
        return mixed(self._keys, self._episodes)

    def _restart(self, which: Tensor, keys: Tensor, options: Mapping[str, Any] | None = None) -> Tensor:
        """Start a mask (B,) of dreams at stored contexts drawn by their keys; which ones, (B,)."""
        choice = self._starts.draw(mixed(keys, _CONTEXT))
        self.task.start(which, self._starts.glimpse(choice), mixed(keys, _GOAL), options)
        self.engine.restart(which, choice)
        return choice

    @ours
    def render(self) -> tuple[NDArray[np.uint8], ...] | None:  # type: ignore[override]
        """The decoded newest latent of every dream with its goal marked, B frames (H, W, 3); None without a mode."""
        if self.render_mode is None:
            return None
        self.must_have_started()
        frames = self.world_model.decode(self.engine.newest).cpu().numpy()
        return tuple(self.task.annotate(frames))
