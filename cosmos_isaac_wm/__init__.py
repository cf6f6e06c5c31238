"""cosmos-isaac-wm: a trained latent world model as a Gymnasium simulator, and its real twin.

`import cosmos_isaac_wm` registers `CosmosDream-v0` and `CosmosReal-v0`. The public names below are imported, and torch
with them, when they are first used.
"""

import os as _os
import sys as _sys
from collections.abc import Callable as _Callable
from collections.abc import Mapping as _Mapping
from importlib import import_module as _import_module
from importlib.metadata import version as _version
from pathlib import Path as _Path
from typing import TYPE_CHECKING as _TYPE_CHECKING

from gymnasium import register as _register

if _TYPE_CHECKING:
    from .data import Episode, EpisodeDataset, write_dataset
    from .envs import DreamEnv, DreamVectorEnv, Outcome, RealEnv
    from .policies import Agent, make_dream_vec_env
    from .reporting import DreamRecorder, LockstepRecorder
    from .scene import Camera, Marker, Scene
    from .world_model import WorldModel

__all__ = [
    "Agent",
    "Camera",
    "DreamEnv",
    "DreamRecorder",
    "DreamVectorEnv",
    "Episode",
    "EpisodeDataset",
    "LockstepRecorder",
    "Marker",
    "Outcome",
    "RealEnv",
    "Scene",
    "WorldModel",
    "make_dream_vec_env",
    "write_dataset",
]
__version__ = _version("cosmos-isaac-wm")


def _one_thread() -> None:
    """A forked process does not have the threads that torch believes to have, and would wait for them for ever."""
    if (torch := _sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)


if _sys.platform != "win32":
    _os.register_at_fork(after_in_child=_one_thread)

# In a clone, envs/, policies/ and train/ lie beside this folder and not in it; an install maps them (setup.cfg).
if (_Path(__file__).parents[1] / "setup.cfg").is_file():
    __path__.append(str(_Path(__file__).parents[1]))


def lazily(package: str, names: _Mapping[str, str]) -> tuple[_Callable[[str], object], _Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` for a package that imports its public names when they are first used.

    Args:
        package: The package's `__name__`.
        names: For each public name the module of the package that has it.
    """

    def look_up(name: str) -> object:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}; it has {sorted(names)}")
        return getattr(_import_module(f".{names[name]}", package), name)

    return look_up, lambda: sorted(names)


__getattr__, __dir__ = lazily(
    __name__,
    {
        **dict.fromkeys(("Episode", "EpisodeDataset", "write_dataset"), "data"),
        **dict.fromkeys(("DreamEnv", "DreamVectorEnv", "Outcome", "RealEnv"), "envs"),
        **dict.fromkeys(("Agent", "make_dream_vec_env"), "policies"),
        **dict.fromkeys(("DreamRecorder", "LockstepRecorder"), "reporting"),
        **dict.fromkeys(("Camera", "Marker", "Scene"), "scene"),
        "WorldModel": "world_model",
    },
)

# No max_episode_steps: the time limit is the bundle's, and the environments keep it themselves.
_register(
    "CosmosDream-v0",
    entry_point="cosmos_isaac_wm.envs.dream_env:DreamEnv",
    vector_entry_point="cosmos_isaac_wm.envs.dream_vector_env:DreamVectorEnv",
)
_register("CosmosReal-v0", entry_point="cosmos_isaac_wm.envs.real_env:RealEnv")
# The table as a task of Isaac Lab's, which finds it through the entry point in setup.cfg.
_register(
    "Isaac-CosmosCubePush-Direct-v0",
    entry_point="cosmos_isaac_wm.sims.isaac_task:TableEnv",
    disable_env_checker=True,
    kwargs={"env_cfg_entry_point": "cosmos_isaac_wm.sims.isaac_task:TableEnvCfg"},
)
