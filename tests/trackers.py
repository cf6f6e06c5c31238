"""What do trackio and Weights & Biases both offer? A module of their interface that remembers what it is given."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest


class Fake(ModuleType):
    """What `trackio` and `wandb` both offer."""

    def __init__(self, name):
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, None)
        self.runs, self.rows, self.finished, self.broken = [], [], 0, False

    def init(self, **asked):
        self.runs.append(asked)

    def log(self, figures, step=None):
        if self.broken:
            raise ConnectionError("nobody there")
        self.rows.append((step, figures))

    def finish(self):
        self.finished += 1

    def steps_of(self, key):
        return [step for step, figures in self.rows if key in figures]


def put_in(patch: pytest.MonkeyPatch) -> Callable[[str], Fake]:
    """From now on no tracker is installed but those that are put in by name."""
    found = importlib.util.find_spec
    for name in ("trackio", "wandb"):
        patch.delitem(sys.modules, name, raising=False)

    def find(name: str) -> ModuleSpec | None:
        return found(name) if name not in ("trackio", "wandb") or name in sys.modules else None

    def put(name: str) -> Fake:
        fake = Fake(name)
        patch.setitem(sys.modules, name, fake)
        return fake

    patch.setattr("cosmos_isaac_wm.telemetry.find_spec", find)
    return put
