"""What is shown of a dream beside the truth: recorders, logs, pictures, videos and pages."""

from .replay import DreamRecorder, LockstepRecorder

__all__ = ["DreamRecorder", "LockstepRecorder"]
