"""The Gymnasium face: the dream (one or a batch) and the real simulator, with the same spaces, rewards and ends.

The public names are imported when first used, so that this package alone pulls in no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .dream_env import DreamEnv
    from .dream_vector_env import DreamVectorEnv
    from .real_env import RealEnv
    from .reward import Outcome
    from .task import Task

__all__ = ["DreamEnv", "DreamVectorEnv", "Outcome", "RealEnv", "Task"]

_MODULES = {
    "DreamEnv": "dream_env",
    "DreamVectorEnv": "dream_vector_env",
    "Outcome": "reward",
    "RealEnv": "real_env",
    "Task": "task",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {__all__}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)
