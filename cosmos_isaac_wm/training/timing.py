"""How long does an update of the dynamics take? Measured by training twice, once for twice as long."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from .dynamics import fit_dynamics
from .material import Material
from .recipe import FitConfig, Stage

_LEAST_S = 2.0  # how much longer the longer of two timed trainings takes, at least


def seconds_an_update(
    new_network: Callable[[], nn.Module], material: Material, config: FitConfig, seed: int, device: torch.device
) -> float:
    """Of a recipe, the mean over its stages; what is done once cancels out between a short and a longer run.

    Args:
        new_network: Makes an untrained network.
        material: To learn from.
        config: The recipe.
        seed: Of batches.
        device: Where to train.
    """

    def spent(stage: Stage, count: int) -> float:
        counted = dataclasses.replace(config, stages=(stage,), updates=count, minutes=None, epochs=0)
        counted = dataclasses.replace(counted, validate_every=10**9)
        with tempfile.TemporaryDirectory() as work:
            network, val = new_network(), material.val.select([0])
            start = time.perf_counter()
            fit_dynamics(network, material.sight, material.train, val, counted, Path(work), seed, device.type)
            return time.perf_counter() - start

    def cost(stage: Stage) -> float:
        updates = 4
        while (difference := spent(stage, 2 * updates) - spent(stage, updates)) < _LEAST_S:
            updates *= 2
        return difference / updates

    spent(config.stages[0], 1)  # what the process does once is not this recipe's
    return float(np.average([cost(stage) for stage in config.stages], weights=[stage.share for stage in config.stages]))
