"""Where are the recorders? In `reporting`; this is their address in the README of version 0.1, which goes on to work."""

from .reporting import DreamRecorder, LockstepRecorder

__all__ = ["DreamRecorder", "LockstepRecorder"]
