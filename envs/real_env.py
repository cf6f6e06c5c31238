"""How is the real simulator stepped? As the same environment, seen through the bundle's tokenizer and readout."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import Any, Unpack

import gymnasium as gym
import numpy as np
import torch
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray
from torch import Tensor

from ..borders import integer, ours
from ..protocols import Simulator, SupportsClose
from ..rollout import newer_past, no_past
from ..scene import KINDS, TABLE, Scene
from ..sims import SIMULATORS, SimulatorName, new_simulator
from ..world_model import WorldModel
from ..worlds import Observation, Task
from .actions import one_action
from .batches import to_numpy, unbatch
from .reward import NO_COMPUTE_REWARD
from .spec import InMemory, WithSpec, loaded
from .starts import check_options, default_kind, matching_contexts
from .table_task import TableOptions
from .tasks import new_task

_STORED = ("episode", "start")  # reset options that name a stored context


def own_simulator(world_model: WorldModel) -> SimulatorName:
    """Name of the simulator that a bundle's data came from, the first of several; "mujoco" where that is not known."""
    return _simulators(world_model)[0]


def _simulators(world_model: WorldModel) -> list[SimulatorName]:
    """Names of all simulators that a bundle's data came from; "mujoco" alone where none is known."""
    told = str(world_model.provenance.get("simulator", "")).split(" and ")
    return [name for said in told for name in SIMULATORS if name == said] or ["mujoco"]


def _must_fit(ours: Scene, theirs: Scene, *more: str) -> None:
    """Refuse a simulator of another scene than the bundle's.

    Args:
        ours: The bundle's.
        theirs: The simulator's.
        more: What must be equal beside control rate, actions and camera.

    Raises:
        ValueError: If it is of another.
    """
    advice = "pass a `simulator` of the bundle's scene"
    if strangers := set(ours.marker_names) - set(theirs.marker_names):
        raise ValueError(
            f"the bundle of scene {ours.name!r} tracks {sorted(strangers)}, which are not among the simulator's "
            f"{theirs.marker_names}: {advice}"
        )
    for name in ("control_hz", "action_low", "action_high", "camera", *more):
        mine, its = getattr(ours, name), getattr(theirs, name)
        if mine != its:
            raise ValueError(
                f"the bundle of scene {ours.name!r} was made with {name} {mine}, but the simulator has {its}: {advice}"
            )


class RealEnv(WithSpec, gym.Env[Any, NDArray[np.float32]]):
    """The real simulator behind `DreamEnv`'s spaces, rewards and ends: what an agent dreamt up is worth.

    ## Description

    Every step simulates 0.1 s, renders the picture, encodes it with the bundle's tokenizer, and reads observation,
    reward and success from that latent exactly as `DreamEnv` does. The agent sees nothing else. Pictures need
    off-screen OpenGL (MuJoCo), or an Isaac Lab environment (docs/isaac.md).

    ## Spaces, rewards, episode end

    As `DreamEnv`; `obs_type="rgb"` shows the frame as the tokenizer draws it, as in the dream.

    ## Starting state

    A random state of the simulator, held for K - 1 steps without action so that K real frames exist, and a random goal.

    ## Info

    `cube_position` and `pusher_position` are the simulator's true ones, in metres; `goal`; and `is_success`, which is
    judged by what the readout sees.

    ## Arguments

    As `DreamEnv`, without `dtype` and `sample`, and

    - `simulator`: another simulator of the bundle's scene, or the table in "mujoco" or "isaac-lab"; the one that the
      bundle's data came from when None. One that is not of the bundle's scene is a `ValueError`, one that is not
      installed here an `ImportError`.

    ## Several at once

    `gym.make_vec("CosmosReal-v0", num_envs=2, vectorization_mode="async")`. The processes that it forks compute with
    one thread each; spawned ones (`vector_kwargs={"context": "spawn"}`) should be told to, with `OMP_NUM_THREADS=1`.

    ## Attributes

    `simulator`; `kind` of its episodes; `frame`, its newest picture, uint8 (H, W, 3); `task`, what judges the episode.

    ## Version history

    - v0: first version.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 (as in the base class)

    @ours
    def __init__(
        self,
        world_model: str | os.PathLike[str] | WorldModel | InMemory = "default",
        *,
        simulator: Simulator | str | None = None,
        kind: str | None = None,
        device: str | torch.device = "auto",
        render_mode: str | None = None,
        **options: Unpack[TableOptions],
    ):
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"unknown render_mode {render_mode!r}; expected None or 'rgb_array'")
        model = loaded(world_model, device)
        if model.scene.environment is not None:
            own = model.scene.environment.id or "module:Name-v0"
            raise ValueError(
                f"the bundle is a twin of {own}, so that is its real environment: gymnasium.make({own!r}), or "
                "cosmos_isaac_wm.envs.RealTwinEnv to see it through the bundle's eyes"
            )
        self.world_model, self._scene = model, model.scene
        self.kind = kind or default_kind(model)
        self.simulator = self._simulator(simulator or own_simulator(model))
        self.task: Task = new_task(model.perception, **options)
        self.render_mode = render_mode
        self.metadata = self.metadata | {"render_fps": round(self._scene.control_hz)}
        self.action_space, self.observation_space = self.task.action_space, self.task.observation_space
        shape = (1, model.dynamics.context_length, *model.perception.latent_shape)
        self._context, self._started = torch.zeros(shape, dtype=torch.float32, device=model.device), False
        self.past = no_past(model)
        self.frame = np.zeros((*self._scene.image_size, 3), np.uint8)

    @property
    @ours
    def context(self) -> Tensor:
        """The latents of the newest K real frames, oldest first, (K, C, h, w); what a planner starts from."""
        return self._context[0].clone()

    def must_have_started(self) -> None:
        """Raise `ResetNeeded` before the first reset: there is nothing yet to go on from."""
        if not self._started:
            raise ResetNeeded("call reset() before the first step")

    @property
    def compute_reward(self) -> Callable[..., Tensor | NDArray[np.float64]]:
        """Rewards from achieved and desired goals (..., 2); absent unless poses, dense or sparse."""
        if not self.task.has_compute_reward:
            raise AttributeError(NO_COMPUTE_REWARD)
        return self.task.compute_reward

    @ours
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start a new episode.

        Args:
            seed: Seed of state and goal; None goes on with the random numbers so far.
            options: `"episode"` and `"start"`: begin where the stored context of that training episode ends, as
                `DreamEnv` does with the same options; `"goal"`: (x, y) in metres.

        Raises:
            ValueError: If an option is unknown or impossible; the message says what there is.
            OpenGLError: If no pictures can be drawn here.
        """
        seed = None if seed is None else integer(seed, "seed")
        super().reset(seed=seed)
        options = check_options(options, (*_STORED, *self.task.reset_options))
        if "episode" in options or "start" in options:
            episode, start = (None if options.get(key) is None else integer(options[key], key) for key in _STORED)
            self._context = self._restore(episode, start)
        else:
            self._context = self._begin()
        self._started, self.past = True, no_past(self.world_model)
        key = torch.from_numpy(self.np_random.integers(2**62, size=1)).to(self._context.device)
        every = torch.ones(1, dtype=torch.bool, device=self._context.device)
        self.task.start(every, self.task.glimpse(self._context), key, options)
        return self._shown(self.task.observe(self._context[:, -1]))

    @ours
    def step(self, action: NDArray[np.float32]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Simulate one control step under `action` (A,).

        Raises:
            ValueError: If the action is not finite or out of bounds.
        """
        self.must_have_started()
        checked = self.task.check_actions(one_action(action))
        self.simulator.step(checked[0].cpu().numpy())
        self.frame = self.simulator.render()
        latent = self.world_model.encode(self.frame[None])
        self._context = torch.cat([self._context[:, 1:], latent[None]], dim=1)
        self.past = newer_past(self.past, self.world_model.perception.scale_actions(checked))
        batch, rewards, terminated, truncated = self.task.advance(latent, checked)
        observation, info = self._shown(batch)
        return observation, float(rewards[0]), bool(terminated[0]), bool(truncated[0]), info

    def render(self) -> NDArray[np.uint8] | None:  # type: ignore[override]
        """The camera's picture with the goal marked, uint8 (H, W, 3); None without a render mode."""
        if self.render_mode is None:
            return None
        self.must_have_started()
        return self.task.annotate(self.frame[None])[0]

    def close(self) -> None:
        """Free the simulator's OpenGL context."""
        if isinstance(self.simulator, SupportsClose):
            self.simulator.close()

    def _simulator(self, asked: Simulator | str) -> Simulator:
        """The simulator that was asked for.

        Raises:
            ValueError: If it is not one of the bundle's scene.
        """
        if not isinstance(asked, str):
            _must_fit(self._scene, asked.scene, "image_size")
            return asked
        _must_fit(self._scene, TABLE)  # the table is drawn at any size
        if asked not in _simulators(self.world_model):
            own = own_simulator(self.world_model)
            warnings.warn(
                f"the bundle's pictures came from {own}; those of {asked} are strange to its eyes",
                UserWarning,
                stacklevel=3,
            )
        return new_simulator(asked, self.kind or KINDS[0], self._scene.image_size)

    def _begin(self) -> Tensor:
        """A random state; the latents of its first K frames, (1, K, C, h, w)."""
        self.simulator.reset(int(self.np_random.integers(2**31)))
        frames = [self.simulator.render()]
        rest = np.clip(np.zeros(self._scene.action_dim, np.float32), self._scene.action_low, self._scene.action_high)
        for _ in range(self._context.shape[1] - 1):
            self.simulator.step(rest)
            frames.append(self.simulator.render())
        self.frame = frames[-1]
        return self.world_model.encode(np.stack(frames))[None]

    def _restore(self, episode: int | None, start: int | None) -> Tensor:
        """The state at the end of a stored context; the latents of that context, (1, K, C, h, w)."""
        contexts = self.world_model.contexts
        index = int(self.np_random.choice(matching_contexts(contexts, self.kind, episode, start)))
        if self.kind not in (None, contexts.kinds[index]):
            raise ValueError(
                f"episode {episode} is of kind {contexts.kinds[index]!r}, but this environment simulates "
                f"{self.kind!r}; make it with kind={contexts.kinds[index]!r}"
            )
        state = contexts.states[index].cpu().numpy()
        state = state[~np.isnan(state)]  # padded to the longest of all kinds
        if not state.size:
            raise ValueError(f"the bundle stores no simulator state for episode {episode}; reset with a seed instead")
        self.simulator.set_state(state)
        self.frame = self.simulator.render()
        return contexts.latents[index][None].float().to(self.world_model.device)

    def _shown(self, batch: Observation) -> tuple[Any, dict[str, Any]]:
        """Observation and info of a batch of one; the info has the simulator's positions, not the readout's."""
        observation, info = unbatch(*to_numpy((batch, self.task.info())))
        seen = {key: value for key, value in info.items() if not key.endswith("_position")}
        truth = {f"{name}_position": np.float32(place) for name, place in self.simulator.positions().items()}
        return observation, seen | truth
