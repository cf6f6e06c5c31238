"""Which policy does `module:function` mean? One of the user's own: imported, called with the environment, and asked."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from ..borders import modules_from_here
from ..envs.batches import row_of

Predict = Callable[[Any], NDArray[Any]]  # an action for an observation


def is_import(name: str) -> bool:
    """Whether a name is `module:function`, and no folder."""
    module, colon, function = name.partition(":")
    return bool(colon) and function.isidentifier() and all(part.isidentifier() for part in module.split("."))


def imported(name: str) -> Callable[[gym.Env[Any, Any]], Any]:
    """The function of `module:function`; modules in the working directory are found as well.

    Raises:
        ValueError: If there is no such module, or it has no such function.
    """
    module, _, function = name.partition(":")
    try:
        with modules_from_here():
            made = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"no policy {name!r}: {error}; modules are looked for in {os.getcwd()} and on Python's path"
        ) from error
    if not callable(made):
        raise ValueError(f"{name!r} is no function: expected one that takes the environment and returns a policy")
    return made  # type: ignore[no-any-return]


class EachAlone:
    """One policy of `module:function` for each of a batch of environments, with Stable-Baselines3's `predict`.

    Args:
        name: Of the function.
        env: The batch, which the function is called with once for every environment.
    """

    def __init__(self, name: str, env: Any):
        self._each = [new_named(name, env) for _ in range(env.num_envs)]

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[NDArray[Any], None]:
        """An action for each of a batch of observations."""
        rows = range(len(self._each))
        actions = [predict(row_of(observation, row)) for predict, row in zip(self._each, rows, strict=True)]
        return np.stack([np.asarray(action) for action in actions]), None


def new_named(name: str, env: gym.Env[Any, Any]) -> Predict:
    """The policy of `module:function` in an environment.

    What the function returns has Stable-Baselines3's `predict`, or is itself called with observations.

    Raises:
        ValueError: If there is no such function, or it returns something else.
    """
    policy = imported(name)(env)
    predict = getattr(policy, "predict", None)  # what others have made has no contract but this
    if predict is not None:
        return lambda observation: predict(observation, deterministic=True)[0]
    if callable(policy):
        return policy  # type: ignore[no-any-return]
    raise ValueError(f"{name!r} returned {policy!r}: expected something with `predict`, or a function of observations")
