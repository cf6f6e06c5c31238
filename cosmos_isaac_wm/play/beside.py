"""What really happens beside a dream that is played? The simulator does the same from the same start."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..contexts import Contexts
from ..envs.real_env import own_simulator
from ..envs.starts import default_kind
from ..protocols import SupportsClose
from ..scene import KINDS
from ..sims import new_simulator
from ..sims.gymnasium_env import GymnasiumEnv, Shown, environment_of
from ..spaces import own_actions
from ..world_model import WorldModel

Places = dict[str, NDArray[np.float64]]


class Beside(Protocol):
    """The real one of a scene, which can also go back."""

    @property
    def frame(self) -> NDArray[np.uint8]:
        """Its newest picture, uint8 (H, W, 3)."""

    @property
    def shown(self) -> Shown | None:
        """All that a twin's environment showed with it; None of the table, where the dream alone is judged."""

    def begin(self, seed: int) -> dict[str, Any]:
        """Start an episode; the reset options by which a dream starts alike."""

    def step(self, vector: NDArray[np.float32]) -> None:
        """Act by a vector (A,)."""

    def rewind(self, steps: int) -> None:
        """Go back to where it was after so many steps since its start."""

    def positions(self) -> Places:
        """True (x, y) in metres by marker; empty where there are no markers."""

    def close(self) -> None:
        """Free what it draws with."""


class RealTable:
    """The table, from the state that is stored with one of the bundle's contexts.

    Args:
        model: The bundle.

    Raises:
        ValueError: If no stored context has a state.
    """

    def __init__(self, model: WorldModel):
        self._contexts, kind = model.contexts, default_kind(model)
        self._known = _with_states(self._contexts, kind)
        if not self._known.size:
            raise ValueError("the bundle stores no context with a simulator state, so both cannot start alike")
        self._simulator = new_simulator(own_simulator(model), kind or KINDS[0], model.scene.image_size)
        self._states: list[NDArray[np.float64]] = []
        self.frame, self.shown = np.zeros((*model.scene.image_size, 3), np.uint8), None

    def begin(self, seed: int) -> dict[str, Any]:
        """See `Beside`."""
        row = int(np.random.default_rng(seed).choice(self._known))
        state = self._contexts.states[row].cpu().numpy()
        self._restore(state[~np.isnan(state)])
        self._states = [self._simulator.get_state()]
        return {"episode": int(self._contexts.episodes[row]), "start": int(self._contexts.starts[row])}

    def step(self, vector: NDArray[np.float32]) -> None:
        """See `Beside`."""
        self._simulator.step(vector)
        self.frame = self._simulator.render()
        self._states.append(self._simulator.get_state())

    def rewind(self, steps: int) -> None:
        """See `Beside`."""
        del self._states[steps + 1 :]
        self._restore(self._states[-1])

    def positions(self) -> Places:
        """See `Beside`."""
        return self._simulator.positions()

    def close(self) -> None:
        """See `Beside`."""
        if isinstance(self._simulator, SupportsClose):
            self._simulator.close()

    def _restore(self, state: NDArray[np.float64]) -> None:
        self._simulator.set_state(state)
        self.frame = self._simulator.render()


class RealEnvironment:
    """The environment that a twin was learned from; its first K frames, in which nothing is done, start the dream.

    It need not be able to restore a state: to go back, it starts again from its seed and repeats the actions.

    Args:
        model: The bundle.
        idle: The action by which nothing is done, a vector (A,).
        named: What the user calls the environment, where Gymnasium does not know it by itself.

    Raises:
        ValueError: If it is not installed, or not the one that was recorded.
    """

    def __init__(self, model: WorldModel, idle: NDArray[np.float32], named: str | None = None):
        told = model.scene.environment
        assert told is not None
        environment_of(model.scene, named).close()  # which must be what was recorded
        rows = model.scene.image_size[0] if told.picture is None else None
        self._env = GymnasiumEnv(named or str(told.id), told.kwargs, rows)
        self._idle = idle
        self._frames = model.dynamics.context_length
        self._seed, self._led = 0, list[NDArray[np.float32]]()  # all actions since its reset
        self.shown: Shown | None = None

    @property
    def frame(self) -> NDArray[np.uint8]:
        """See `Beside`."""
        assert self.shown is not None
        return self.shown.frame

    def begin(self, seed: int) -> dict[str, Any]:
        """See `Beside`."""
        self._seed, self._led = seed, [self._idle] * (self._frames - 1)
        first = [self._env.reset(seed), *map(self._env.step, self._led)]
        self.shown = first[-1]
        return {"frames": np.stack([each.frame for each in first]), "actions": np.stack(self._led)}

    def step(self, vector: NDArray[np.float32]) -> None:
        """See `Beside`."""
        self._led.append(vector)
        self.shown = self._env.step(vector)

    def rewind(self, steps: int) -> None:
        """See `Beside`; on the way nothing is drawn."""
        del self._led[self._frames - 1 + steps :]
        self.shown = self._env.reset(self._seed)
        env = self._env.env
        for vector in self._led[:-1]:
            env.step(own_actions(env.action_space, vector[None])[0])
        for vector in self._led[-1:]:
            self.shown = self._env.step(vector)

    def positions(self) -> Places:
        """See `Beside`."""
        return {}

    def close(self) -> None:
        """See `Beside`."""
        self._env.close()


def new_beside(model: WorldModel, idle: NDArray[np.float32], named: str | None = None) -> Beside:
    """The real one of a bundle's scene.

    Args:
        model: The bundle.
        idle: The action by which nothing is done, a vector (A,).
        named: What the user calls a twin's environment, where Gymnasium does not know it by itself.

    Raises:
        ValueError: If the two cannot start alike.
        ImportError: If its simulator is not installed.
        RuntimeError: If no pictures can be drawn here.
    """
    return RealTable(model) if model.scene.environment is None else RealEnvironment(model, idle, named)


def _with_states(contexts: Contexts, kind: str | None) -> NDArray[np.int64]:
    """Indices of the contexts of a kind that have a simulator state."""
    known = (~contexts.states.isnan()).any(dim=1).cpu().numpy()
    return np.flatnonzero(known & np.array([kind in (None, own) for own in contexts.kinds]))
