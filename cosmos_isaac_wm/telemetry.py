"""Where else do a command's figures go while it runs? To trackio or Weights & Biases, where `--track` asks for that."""

from __future__ import annotations

import hashlib
import importlib
import math
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

Package = Literal["auto", "trackio", "wandb"]

PROJECT = "cosmos-isaac-wm"
_PACKAGES = ("trackio", "wandb")  # of one interface; the first stays on this machine
_NEEDED = "pip install trackio (which keeps them on this machine) or pip install wandb"


class _Tracker:
    """One run of a package; what it cannot take is said once, and ends the tracking but not the training."""

    def __init__(self, package: ModuleType):
        self._package: ModuleType | None = package

    def log(self, figures: dict[str, float], step: int | None) -> None:
        self._call("log", figures, **({} if step is None else {"step": step}))

    def finish(self) -> None:
        self._call("finish")

    def _call(self, name: str, *arguments: Any, **named: Any) -> None:
        if self._package is None:
            return
        try:
            getattr(self._package, name)(*arguments, **named)
        except Exception as error:  # of somebody else's network, disk or server
            warnings.warn(
                f"{self._package.__name__} takes no more figures ({type(error).__name__}: {error}); the work goes on "
                "without it, and TensorBoard and the files have them all",
                RuntimeWarning,
                stacklevel=2,
            )
            self._package = None


_current: ContextVar[_Tracker | None] = ContextVar("tracker", default=None)


@contextmanager
def tracking(package: Package, command: str, options: Mapping[str, Any], out: Path | None) -> Iterator[None]:
    """Hand on what `track` is given inside of the block, as one run.

    A command that goes on in the same folder goes on with its run. Of several processes the main one alone tracks.

    Args:
        package: Which; "auto" takes the one that is installed, trackio if both are.
        command: The run's name, with the folder.
        options: Of the command, JSON values; the run's configuration.
        out: The command's folder, if it has one.

    Raises:
        ImportError: If the package is not installed, or neither.
    """
    module = importlib.import_module(_installed(package))
    if os.environ.get("RANK", "0") != "0":
        yield
        return
    asked: dict[str, Any] = {"project": PROJECT, "config": dict(options)}
    if out is not None:
        asked |= {"name": f"{command} {out}", "resume": "allow"}
        if module.__name__ == "wandb":  # which knows runs by this, not by their name
            asked["id"] = hashlib.sha256(f"{command} {out.absolute()}".encode()).hexdigest()[:16]
    module.init(**asked)
    tracker = _Tracker(module)
    before = _current.set(tracker)
    try:
        yield
    finally:
        _current.reset(before)
        tracker.finish()


def track(figures: Mapping[str, float], step: int | None = None) -> None:
    """Hand figures on, those that are finite, if anybody tracks."""
    tracker = _current.get()
    known = {name: float(value) for name, value in figures.items() if math.isfinite(value)}
    if tracker is not None and known:
        tracker.log(known, step)


def _installed(package: Package) -> str:
    """The name of an installed package.

    Raises:
        ImportError: If it is not; says how to install one.
    """
    wanted = _PACKAGES if package == "auto" else (package,)
    there = [name for name in wanted if find_spec(name) is not None]
    if not there:
        missing = f"{package} is" if package != "auto" else "neither trackio nor Weights & Biases is"
        raise ImportError(f"--track hands figures on, and {missing} installed: {_NEEDED}")
    return there[0]
