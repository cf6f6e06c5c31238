"""Planners: they dream many futures from where the environment is, and do what the best of them begins with.

A `Planner` joins a search over action sequences (`CEM`, `ICEM`, `MPPI`) with a cost of what was dreamed; a
`GradientPlanner` follows the gradient of that cost through the network instead.
"""

from .cost import Cost, GoalPictureCost, GoalStateCost, Imagined, PushCost, RewardCost
from .gradient import GradientPlanner
from .planner import Planner
from .search import CEM, ICEM, MPPI, SEARCHES, Search

__all__ = [
    "CEM",
    "ICEM",
    "MPPI",
    "SEARCHES",
    "Cost",
    "GoalPictureCost",
    "GoalStateCost",
    "GradientPlanner",
    "Imagined",
    "Planner",
    "PushCost",
    "RewardCost",
    "Search",
]
