"""What do agents see that are shown latents or pictures? In every task the same: a dream's newest, and its space."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from ..perception import Perception
from ..protocols import LATENT_LIMIT

SHOWN = ("latent", "latent16", "rgb")
_LATENT_DTYPES = {"latent": torch.float32, "latent16": torch.float16}


def space_of(obs_type: str, perception: Perception) -> spaces.Space[Any]:
    """Of one observation of a kind in `SHOWN`."""
    if obs_type == "rgb":
        return spaces.Box(0, 255, (*perception.scene.image_size, 3), np.uint8)
    dtype = np.float16 if obs_type == "latent16" else np.float32
    return spaces.Box(-LATENT_LIMIT, LATENT_LIMIT, perception.latent_shape, dtype)


def shown(obs_type: str, perception: Perception, latents: Tensor) -> Tensor:
    """Latents (B, C, h, w) as observations of a kind in `SHOWN`."""
    if obs_type == "rgb":
        return perception.decode(latents)
    return latents.nan_to_num(0.0).clamp(-LATENT_LIMIT, LATENT_LIMIT).to(_LATENT_DTYPES[obs_type])
