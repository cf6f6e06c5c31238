"""What does an environment's `EnvSpec` say of its world model? Its name, so that a spec is small and can be stored."""

from __future__ import annotations

import dataclasses
import os
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from gymnasium.envs.registration import EnvSpec

from ..world_model import WorldModel
from ..worlds import Task


@dataclass(frozen=True)
class InMemory:
    """A world model that is in no folder, for a spec: copies of the spec share it, and none can be written as JSON.

    Attributes:
        world_model: The model.
    """

    world_model: WorldModel

    def __deepcopy__(self, memo: dict[int, Any]) -> InMemory:
        return self


def loaded(
    world_model: str | os.PathLike[str] | WorldModel | InMemory, device: str | torch.device = "auto"
) -> WorldModel:
    """The world model that an environment was asked for: a given one as it is, a named one from its folder."""
    if isinstance(world_model, InMemory):
        return world_model.world_model
    model = world_model if isinstance(world_model, WorldModel) else WorldModel.load(world_model, device)
    if model.verdict is not None and model.verdict.faults:
        warnings.warn(f"{model.name or 'the world model'}: {model.verdict.words()}", UserWarning, stacklevel=3)
    return model


class WithSpec:
    """Gives an environment a `spec` that says what it was made with.

    Gymnasium copies a spec for every wrapper, a passed `WorldModel` in it included, and knows no time limit but a
    wrapper's: here the model is in the spec by name (of the folder that it was loaded from), and the limit is the
    task's.
    """

    world_model: WorldModel
    task: Task
    _spec: EnvSpec | None = None

    @property
    def spec(self) -> EnvSpec | None:
        """What `gymnasium.make` was asked for; None for an environment that it did not make."""
        return self._spec

    @spec.setter
    def spec(self, asked: EnvSpec | None) -> None:
        if asked is not None:
            kwargs = dict(asked.kwargs)
            if isinstance(model := kwargs.get("world_model"), WorldModel):
                kwargs["world_model"] = model.name or InMemory(model)
            asked = dataclasses.replace(asked, kwargs=kwargs, max_episode_steps=self.task.max_episode_steps)
        self._spec = asked
