"""How is any Gymnasium environment recorded? With pictures of it, and the whole state where MuJoCo simulates it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.envs.mujoco import MujocoEnv
from gymnasium.envs.registration import EnvSpec, load_env_creator
from gymnasium.wrappers import AddRenderObservation
from minari.serialization import serialize_space
from numpy.typing import NDArray

from ..borders import modules_from_here
from ..resizing import ROWS, recorded_size, resized
from ..scene import Environment, Scene
from ..spaces import PIXELS, STATE, Layout, action_bounds, is_picture, own_actions
from .mujoco import whole_state

_PACKAGES = {  # whose environments have to be installed; by namespace, or the beginning of the name
    "ALE/": "ale-py",
    "gym_pusht": "gym-pusht",
    "gym_aloha": "gym-aloha",
    "gym_xarm": "gym-xarm",
    "MiniGrid": "minigrid",
    "BabyAI": "minigrid",
    "highway": "highway-env",
    "Metaworld": "metaworld",
    "Meta-World": "metaworld",
    **dict.fromkeys(("Fetch", "Hand", "Adroit", "Franka", "PointMaze", "AntMaze"), "gymnasium-robotics"),
}


@dataclass(frozen=True)
class Shown:
    """What an environment shows at a moment.

    Attributes:
        frame: The picture as it is recorded, uint8 (H, W, 3).
        rest: What is observed beside it, by key; empty if nothing.
        observation: What the environment itself observes, as its agents see it.
        info: Its info.
        state: MuJoCo's whole state, (S,); None where something else simulates.
        reward: Of the action that led here.
        terminated: Whether the episode is over.
        truncated: Whether it was cut off.
    """

    frame: NDArray[np.uint8]
    rest: dict[str, Any]
    observation: Any
    info: dict[str, Any]
    state: NDArray[np.float64] | None
    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False


class GymnasiumEnv:
    """A Gymnasium environment that shows a picture at every step.

    Args:
        env_id: What `gymnasium.make` knows it by: "Reacher-v5", or "module:name" where a module registers it.
        env_kwargs: Further arguments for `gymnasium.make`; JSON values.
        rows: Rows of the picture, 64 when None; columns follow. An observed picture is taken as it is.

    Attributes:
        env: The environment as its agents see it.
        scene: What a dataset says of it.
        shown: What it has shown last; nothing before the first reset.

    Raises:
        ValueError: If there is no such environment here, it shows no pictures, or its actions or observations are of a
            kind that is not supported.
    """

    def __init__(self, env_id: str, env_kwargs: dict[str, Any] | None = None, rows: int | None = None):
        kwargs = dict(env_kwargs or {})
        with modules_from_here():
            spec = _spec(env_id)
            self.env, picture = _with_pictures(env_id, spec, kwargs, rows)
        self._pictured = self.env
        if picture is None:
            self._pictured = AddRenderObservation(self.env, render_only=False, render_key=PIXELS, obs_key=STATE)
        self._key = PIXELS if picture is None else picture
        if isinstance(whole := self._pictured.observation_space, spaces.Dict):
            Layout(spaces.Dict({key: space for key, space in whole.spaces.items() if key != self._key}), env_id)
        low, high = action_bounds(self.env.action_space, env_id)
        self._shape = recorded_size(self._picture_space().shape, rows if picture is None else None)
        self.scene = Scene(
            name=env_id.rpartition(":")[2],
            control_hz=self._rate(),
            image_size=self._shape,
            action_low=low,
            action_high=high,
            episode_steps=spec.max_episode_steps or 100,
            environment=Environment(
                _written(spec, kwargs),
                serialize_space(self.env.observation_space),
                serialize_space(self.env.action_space),
                picture,
            ),
        )

    def reset(self, seed: int, options: dict[str, Any] | None = None) -> Shown:
        """Start an episode, as the environment's own options ask."""
        self.shown = self._shown(*self._pictured.reset(seed=seed, options=options))
        return self.shown

    def step(self, vector: NDArray[np.float32]) -> Shown:
        """Act by a vector (A,), as networks take it."""
        action = own_actions(self.env.action_space, vector[None])[0]
        observation, reward, terminated, truncated, info = self._pictured.step(action)
        self.shown = self._shown(observation, info, float(reward), bool(terminated), bool(truncated))
        return self.shown

    def metadata(self) -> dict[str, Any]:
        """What must not differ between recordings that shall be the same."""
        told = {"simulator": self.scene.name, "gymnasium": gym.__version__}
        return told | ({"mujoco": version("mujoco")} if whole_state(self.env.unwrapped) is not None else {})

    def close(self) -> None:
        """Free what it draws with."""
        self.env.close()

    def _shown(self, observation: Any, info: dict[str, Any], *outcome: Any) -> Shown:
        rest, own = dict(observation) if isinstance(observation, dict) else {self._key: observation}, observation
        frame = self._drawn(rest.pop(self._key))
        if self._pictured is not self.env:
            own = rest if isinstance(self.env.observation_space, spaces.Dict) else rest[STATE]
        return Shown(frame, rest, own, info, whole_state(self.env.unwrapped), *outcome)

    def _drawn(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A picture in the size of the scene.

        Raises:
            ValueError: If it is of another size than the first.
        """
        if picture.shape != self._picture_space().shape:
            raise ValueError(
                f"{self.scene.name} has drawn a picture of {picture.shape} after one of {self._picture_space().shape}; "
                "pictures of one size are expected"
            )
        return resized(picture, self._shape)

    def _picture_space(self) -> spaces.Box:
        space = self._pictured.observation_space
        found = space[self._key] if isinstance(space, spaces.Dict) else space
        assert isinstance(found, spaces.Box)
        return found

    def _rate(self) -> float:
        """Control steps a second, as it says itself."""
        core = self.env.unwrapped
        return 1 / float(core.dt) if isinstance(core, MujocoEnv) else float(core.metadata.get("render_fps") or 30)


def environment_of(scene: Scene, named: str | None = None, **more: Any) -> gym.Env[Any, Any]:
    """The environment that recordings are of, as it is installed here.

    A file only says which it is. Nothing is imported for that, and arguments that it names are not used, unless the
    user has named the environment, too.

    Args:
        scene: Of the recordings.
        named: What the user calls it, "Name-v0" or "module:Name-v0"; None to take it where it is registered already.
        more: Further arguments for `gymnasium.make`.

    Raises:
        ValueError: If it is not installed, has to be named, or is not what was recorded.
    """
    told = scene.environment
    assert told is not None
    registered = gym.registry.get(str(told.id))
    more_than = {} if registered is None else {k: v for k, v in told.kwargs.items() if registered.kwargs.get(k) != v}
    if named is None and (registered is None or more_than):
        which = f"of {told.id}{f' with {more_than}' if more_than else ''}" if told.id else "of no known environment"
        raise ValueError(
            f"the recordings are {which}: name the environment to have it made, as it was named to collect them"
        )
    with modules_from_here():
        spec = _spec(named or str(told.id))
        if told.id is not None and spec.id != told.id:
            raise ValueError(f"the recordings are of {told.id}, not of {named}")
        env: gym.Env[Any, Any] = gym.make(spec, **told.kwargs, **more)
    for name in ("observation_space", "action_space"):
        if (own := serialize_space(getattr(env, name))) != (theirs := getattr(told, name)):
            env.close()
            raise ValueError(f"{spec.id} has the {name} {own} here, but {theirs} when it was recorded")
    return env


def compute_reward_of(scene: Scene) -> Callable[..., Any] | None:
    """What the goal environment of recordings computes rewards by, where it is installed; else None, and a word."""
    try:
        env = environment_of(scene)
        env.close()  # rewards are computed from goals alone
        return env.get_wrapper_attr("compute_reward")  # type: ignore[no-any-return]
    except (ValueError, AttributeError, TypeError, ImportError, gym.error.Error) as error:
        print(f"rewards of {scene.name} are foretold, not computed from goals: {error}", file=sys.stderr)
        return None


def _spec(env_id: str) -> EnvSpec:
    """The registered environment of a name.

    Raises:
        ValueError: If there is none; says which package has it, where that is known.
    """
    module, _, name = env_id.rpartition(":")
    try:
        if module:
            importlib.import_module(module)
        return gym.spec(name)
    except (ImportError, gym.error.Error) as error:
        package = next((package for prefix, package in _PACKAGES.items() if name.startswith(prefix)), None)
        advice = 'install the package that has it, and name the module that registers it, as in "module:Name-v0"'
        if package is not None:
            importing = "" if module else f', and name it "{package.replace("-", "_")}:{name}"'
            advice = f"`pip install {package}`{importing}"
        said = " ".join(str(error).split())
        raise ValueError(f"there is no environment {env_id!r} here ({said}): {advice}") from error


def _written(spec: EnvSpec, kwargs: dict[str, Any]) -> str:
    """A spec as JSON; a class that was registered itself goes by its name.

    Raises:
        ValueError: If an argument is no JSON value.
    """
    entry = spec.entry_point
    name = f"{entry.__module__}:{getattr(entry, '__qualname__', type(entry).__name__)}" if callable(entry) else entry
    whole = replace(spec, entry_point=name, vector_entry_point=None, kwargs={**spec.kwargs, **kwargs})
    try:
        return whole.to_json()
    except (TypeError, ValueError) as error:
        raise ValueError(f"{spec.id} has arguments that no dataset can hold: {error}") from error


def _with_pictures(
    env_id: str, spec: EnvSpec, kwargs: dict[str, Any], rows: int | None
) -> tuple[gym.Env[Any, Any], str | None]:
    """The environment, and the key of the picture that it observes ("" if that is all); None where it is rendered.

    Raises:
        ValueError: If it cannot be made so, or has no pictures.
    """
    if "render_mode" in kwargs:
        raise ValueError("render_mode is always 'rgb_array' here; leave it out of the environment's arguments")
    more: dict[str, Any] = {"render_mode": "rgb_array"}
    creator = load_env_creator(spec.entry_point) if isinstance(spec.entry_point, str) else spec.entry_point
    if isinstance(creator, type) and issubclass(creator, MujocoEnv) and not {"width", "height"} & kwargs.keys():
        more |= dict.fromkeys(("width", "height"), rows or ROWS)  # drawn in this size, instead of made smaller
    try:
        env: gym.Env[Any, Any] = gym.make(env_id, **kwargs, **more)
        space = env.observation_space
        for key, box in (dict(space.spaces) if isinstance(space, spaces.Dict) else {"": space}).items():
            if is_picture(box):
                if rows is not None and rows != box.shape[0]:
                    raise ValueError(f"{env_id} observes pictures of {box.shape}, which are recorded as they are")
                return env, key
        env.reset()
        if not isinstance(picture := env.render(), np.ndarray):
            raise ValueError(f"{env_id} drew {type(picture).__name__} instead of a picture")
        return env, None
    except (TypeError, gym.error.Error, ModuleNotFoundError, AttributeError) as error:
        said = " ".join(str(error).split())
        raise ValueError(f"{env_id} cannot be made with pictures (render_mode='rgb_array'): {said}") from error
