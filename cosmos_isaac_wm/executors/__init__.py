"""Where do independent jobs run? In this process, in several of this machine, or on a Ray cluster: one contract."""

from .cluster import JobError, RayCluster, executor_for, nothing
from .local import Executor, Here, Processes

__all__ = ["Executor", "Here", "JobError", "Processes", "RayCluster", "executor_for", "nothing"]
