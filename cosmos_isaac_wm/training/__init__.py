"""How is a world model trained? Its tokenizer, its readout and its dynamics, each by a recipe and resumably."""

from .dynamics import FitResult, fit_dynamics
from .recipe import FitConfig, Stage

__all__ = ["FitConfig", "FitResult", "Stage", "fit_dynamics"]
