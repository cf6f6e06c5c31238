"""What acts: scripted pushers that collect data."""

from .scripted import ExploringPusher

__all__ = ["ExploringPusher"]
