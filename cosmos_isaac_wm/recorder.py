"""Where are the recorders? In `reporting`; the README of version 0.1 imported them from here, which goes on to work."""

from .reporting import DreamRecorder, LockstepRecorder

__all__ = ["DreamRecorder", "LockstepRecorder"]
