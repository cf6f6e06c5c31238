"""The Gymnasium face: the dream (one or a batch) and the real simulator, with the same spaces, rewards and ends.

The public names are imported when first used, so that this package alone pulls in no torch.
"""

from typing import TYPE_CHECKING

from cosmos_isaac_wm import lazily

if TYPE_CHECKING:
    from ..worlds import Task
    from .dream_env import DreamEnv
    from .dream_vector_env import DreamVectorEnv
    from .real_env import RealEnv
    from .real_twin import RealTwinEnv
    from .reward import Outcome

__all__ = ["DreamEnv", "DreamVectorEnv", "Outcome", "RealEnv", "RealTwinEnv", "Task"]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "DreamEnv": "dream_env",
        "DreamVectorEnv": "dream_vector_env",
        "Outcome": "reward",
        "RealEnv": "real_env",
        "RealTwinEnv": "real_twin",
        "Task": ".worlds",
    },
)
