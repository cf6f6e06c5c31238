"""How faithful is a dream? Episodes dreamed open loop, compared with what happened and with baselines."""

from .evaluation import Evaluation, confidence_interval, draw_episodes, evaluate

__all__ = ["Evaluation", "confidence_interval", "draw_episodes", "evaluate"]
