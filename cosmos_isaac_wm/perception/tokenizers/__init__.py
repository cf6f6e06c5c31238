"""Tokenizers: pictures to 16-channel latents and back."""

from .cosmos import CosmosTokenizer
from .tiny import TinyTokenizer, TinyTokenizerConfig

__all__ = ["CosmosTokenizer", "TinyTokenizer", "TinyTokenizerConfig"]
