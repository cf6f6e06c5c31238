"""What is shown of a dream beside the truth: recorders, logs, pictures, videos and pages."""

from .lockstep import LockstepRecorder
from .replay import DreamRecorder

__all__ = ["DreamRecorder", "LockstepRecorder"]
