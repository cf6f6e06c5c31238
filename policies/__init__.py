"""What acts: trained agents, planners and scripted pushers, and the dream as their libraries want it.

The public names are imported when first used: Stable-Baselines3 and torch take a second.
"""

from typing import TYPE_CHECKING

from cosmos_isaac_wm import lazily

if TYPE_CHECKING:
    from .agent import Agent
    from .sb3 import make_dream_vec_env, make_vec_env
    from .scripted import ExploringPusher, GoalPusher, RandomPolicy

__all__ = ["Agent", "ExploringPusher", "GoalPusher", "RandomPolicy", "make_dream_vec_env", "make_vec_env"]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Agent": "agent",
        **dict.fromkeys(("ExploringPusher", "GoalPusher", "RandomPolicy"), "scripted"),
        **dict.fromkeys(("make_dream_vec_env", "make_vec_env"), "sb3"),
    },
)
