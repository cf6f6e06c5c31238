"""cosmos-isaac-wm: a trained latent world model as a Gymnasium simulator, and its real twin.

`import cosmos_isaac_wm` registers `CosmosDream-v0` and `CosmosReal-v0`; torch is imported when one of them is made.
"""

from importlib.metadata import version as _version
from pathlib import Path as _Path

from gymnasium import register as _register

__version__ = _version("cosmos-isaac-wm")

# In a clone, envs/, policies/ and train/ lie beside this folder and not in it; an install maps them (setup.cfg).
if (_Path(__file__).parents[1] / "setup.cfg").is_file():
    __path__.append(str(_Path(__file__).parents[1]))

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
