"""What acts: scripted pushers that collect data. Dreams as Stable-Baselines3 wants them are in `policies.sb3`."""

from .scripted import ExploringPusher

__all__ = ["ExploringPusher"]
