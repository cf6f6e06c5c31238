"""How is one dream stepped? As a Gymnasium environment: a `DreamVectorEnv` with a batch of one."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Unpack

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from torch import Tensor

from ..borders import integer, ours
from ..precision import Precision
from ..rollout import DreamEngine
from ..world_model import WorldModel
from .actions import one_action
from .batches import to_numpy, unbatch
from .dream_vector_env import DreamVectorEnv
from .spec import InMemory, WithSpec
from .table_task import TableOptions


class DreamEnv(WithSpec, gym.Env[Any, NDArray[np.float32]]):
    """A world model dreams; the agent pushes an object to a goal in the dream.

    ## Description

    `reset` loads the latents of K real frames (four for the shipped bundles). `step` predicts the next latent from the
    last K and the action, and the bundle's readout finds the objects in it. No simulator and no OpenGL are needed. All
    that follows is about the shipped bundle, a red cube and a blue pusher on a table 0.8 m wide; another bundle brings
    its own sizes, rates, names and bounds. `CosmosReal-v0` is the same task in the real simulator.

    A bundle that was made of another Gymnasium environment is its twin: spaces, rewards, ends and time limit are that
    environment's own. Its `obs_type` is "env" (default), "latent", "latent16" or "rgb"; `reward_fn` and
    `max_episode_steps` are as below.

    ## Action space

    `Box(-1, 1, (2,), float32)`: the pusher's velocity along x and y; 1 is 0.3 m/s, held for 0.1 s. In general the
    bounds that the bundle's data was recorded with. An action that is not finite or out of bounds is a `ValueError`.

    ## Observation space

    - `obs_type="pose"` (default; "latent" where the bundle knows no positions): a goal-environment `Dict`, as
      Stable-Baselines3's `HerReplayBuffer` needs: `observation` holds the position in metres of every marker, (x, y),
      the object first, then their velocities in m/s in the same order:
      `[cube x, cube y, pusher x, pusher y, cube vx, cube vy, pusher vx, pusher vy]`; `achieved_goal` is the object's
      position and `desired_goal` the goal, (x, y) in metres. A marker that is not seen stays where it was last seen;
      one that never was is at zero.
    - `obs_type="latent"`: the newest latent, normalised, `(C, h, w)`, float32; `"latent16"` is the same as float16,
      which halves a replay buffer.
    - `obs_type="rgb"`: the newest frame as the tokenizer draws it, `(H, W, 3)`, uint8.

    Latents and pictures show one instant (stack them with `gymnasium.wrappers.FrameStackObservation`) and not the goal,
    which is in `info["goal"]`: give them a fixed `goal`, or a `reward_fn` that needs none.

    ## Rewards

    The first two are always `compute_reward(achieved_goal, desired_goal, info)`, which also takes batches:

    - `reward_type="dense"` (default): minus the distance between object and goal, as a share of the workspace's
      diagonal, in [-1, 0].
    - `reward_type="sparse"`: 0 at the goal, else -1.

    Leaving the workspace costs a whole episode of -1 besides, so that it never pays.

    - `reward_type="progress"`: 20 for every metre that the object came nearer to the goal in this step, 2 for every
      metre that the agent came nearer to the object, -0.02 a step, 5 for success, -5 for leaving the workspace. What
      on-policy algorithms learn from soonest; there is no `compute_reward`, as it depends on the step before.

    `reward_fn` replaces the reward:
    it gets an `Outcome` (positions now and before, goals, latents, and frames decoded if it asks for them) with a
    batch axis, and returns one number per environment. There is no `compute_reward` then, nor for latent and rgb.

    ## Starting state

    A context drawn from the real ones stored in the bundle, and a goal drawn uniformly inside the workspace, off its
    edge and at least twice the goal radius away from the object.

    ## Episode end

    Terminated: the object is within the goal radius (4 cm) of the goal, or has left the workspace. Truncated: the time
    limit (97 steps), or the object is no longer seen, or the latent is no longer finite: such a dream is not to be
    trusted. Stepping on after the end is allowed, for replays; the dream just goes on.

    ## Info

    `cube_position`, `pusher_position` ((x, y) in metres as the readout sees them; absent when not seen), `goal`,
    `is_success`, `dream_step`, and `uncertainty` when the world model estimates one.

    ## Arguments

    ```python
    env = gym.make("CosmosDream-v0", world_model="default", obs_type="pose", reward_type="dense")
    ```

    - `world_model`: a shipped bundle's name, a folder, "hf://owner/repository", or a loaded `WorldModel`.
    - `obs_type`: "pose", "latent", "latent16" or "rgb".
    - `reward_type`: "dense", "sparse" or "progress".
    - `reward_fn`: a reward of your own instead: from an `Outcome` to one number per environment (here one).
    - `goal`: fixed goal (x, y) in metres; drawn for every episode when None.
    - `goal_radius`: metres, nearer than which the object is at its goal; 0.04, the scene's, when None.
    - `max_episode_steps`: time limit; the bundle's own when None. It is part of the environment, so
      `gym.make(..., max_episode_steps=n)`, which adds a `TimeLimit` wrapper, can only shorten it;
      `DreamEnv(max_episode_steps=n)` and `make_vec` take any.
    - `render_mode`: None or "rgb_array".
    - `device`: "auto", "cpu", "cuda", ...; a `WorldModel` that is passed in stays where it is.
    - `kind`: kind of stored contexts to start from; the first that shows the agent when None.
    - `dtype`: precision of dynamics and readout, "float32", "bfloat16" or "auto" (float32 for a single dream).
    - `trust`: what follows from `info["error_bound"]`, how far the dream may be off (where the bundle knows that):
      "report" nothing, "truncate" its end beyond `max_error`, "penalise" less reward, by `trust_weight` times that.
    - `sample`: draw what a stochastic bundle leaves open, from the dream's seed, instead of dreaming its mean.

    An argument that there is not is a `TypeError`, one that the bundle does not support a `ValueError`.

    ## Version history

    - v0: first version.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 (as in the base class)

    def __init__(
        self,
        world_model: str | os.PathLike[str] | WorldModel | InMemory = "default",
        *,
        render_mode: str | None = None,
        device: str | torch.device = "auto",
        kind: str | None = None,
        dtype: Precision = "auto",
        sample: bool = False,
        **options: Unpack[TableOptions],
    ):
        self._core = DreamVectorEnv(
            1,
            world_model,
            render_mode=render_mode,
            autoreset_mode=AutoresetMode.DISABLED,
            device=device,
            kind=kind,
            dtype=dtype,
            compile=False,  # nobody waits for a compiler to dream alone
            sample=sample,
            **options,
        )
        self.world_model, self.task = self._core.world_model, self._core.task
        self.render_mode = render_mode
        self.metadata = self.metadata | {"render_fps": self._core.metadata["render_fps"]}
        self.action_space = self._core.single_action_space
        self.observation_space = self._core.single_observation_space

    @property
    def context(self) -> Tensor:
        """The newest K latents, oldest first, (K, C, h, w); what a planner starts from."""
        return self._core.context[0]

    @property
    def past(self) -> Tensor:
        """The last H scaled actions, oldest first, (H, A), for a dynamics that sees them; 0 before there were any."""
        return self._core.engine.past[0].clone()

    def must_have_started(self) -> None:
        """Raise `ResetNeeded` before the first reset."""
        self._core.must_have_started()

    @property
    def engine(self) -> DreamEngine:
        """What advances the dream."""
        return self._core.engine

    @property
    def compute_reward(self) -> Callable[..., Tensor | NDArray[np.float64]]:
        """Rewards from achieved and desired goals (..., 2); absent unless poses, dense or sparse."""
        return self._core.compute_reward

    @ours
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start a new dream.

        Args:
            seed: Seed of context and goal; None goes on with the random numbers so far.
            options: `"episode"` and `"start"`: the stored context of that training episode, from that frame;
                `"frames"`: K real frames of your own, uint8 (K, H, W, 3), oldest first, instead; or `"latents"`: what
                they were encoded to, as `RealEnv.context` gives it, (K, C, h, w); `"actions"`: what led through these,
                (K - 1, A), for a dynamics or heads that look back on actions;
                `"goal"`: (x, y) in metres.

        Raises:
            ValueError: If an option is unknown or impossible; the message says what there is.
        """
        seed = None if seed is None else integer(seed, "seed")
        super().reset(seed=seed)
        return unbatch(*self._core.reset(seed=seed, options=options))

    @ours
    def step(self, action: NDArray[np.float32]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Dream one control step under `action` (A,).

        Raises:
            ValueError: If the action is not finite or out of bounds.
        """
        self.must_have_started()
        results = self._core.advance(self._core.task.check_actions(one_action(action)))
        batch, rewards, terminated, truncated, infos = to_numpy(results)
        observation, info = unbatch(batch, infos)
        return observation, float(rewards[0]), bool(terminated[0]), bool(truncated[0]), info

    @ours
    def get_state(self) -> dict[str, Tensor]:
        """All that the dream goes on from, as `DreamVectorEnv.get_state` has it, of one dream."""
        return self._core.get_state()

    @ours
    def set_state(self, state: Mapping[str, Tensor]) -> tuple[Any, dict[str, Any]]:
        """Go on from a state, also from one of another environment of this bundle; observation and info there.

        Raises:
            ValueError: If it is of another bundle, or of several dreams.
        """
        return unbatch(*self._core.set_state(state))

    def render(self) -> NDArray[np.uint8] | None:  # type: ignore[override]
        """The decoded newest latent with the goal marked, uint8 (H, W, 3); None without a render mode."""
        frames = self._core.render()
        return None if frames is None else frames[0]
