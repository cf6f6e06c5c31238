"""Perception: what is in a picture or a latent. Tokenizers, their latents' statistics, the readout and the detector."""

from ..storage.bundle import BundleError
from .perception import Perception

__all__ = ["BundleError", "Perception"]
