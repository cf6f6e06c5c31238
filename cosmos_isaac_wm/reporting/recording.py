"""What was dreamed beside what was true? One episode as it grows, step by step, whoever records it."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..evaluation.ground_truth import Floats, Reference, detect_all, hold_all
from ..evaluation.open_loop import OpenLoop
from ..evaluation.perception_metrics import decode_frames, locate
from ..world_model import WorldModel
from .figures import Footage
from .log import csv_row


class Recording:
    """An episode of T steps so far, dreamed and true; N markers.

    Args:
        world_model: The bundle that dreams it.
        number: Of the episode in the log.
        kind: Of the episode.
        start_px: Where the markers were last seen before it, px at 512, (N, 2).
    """

    def __init__(self, world_model: WorldModel, number: int, kind: str, start_px: Floats):
        self.number, self.kind = number, kind
        self._model, self._start_px = world_model, start_px
        self._latents: list[Tensor] = []
        self._dreamed: list[NDArray[np.uint8]] = []
        self._real: list[NDArray[np.uint8]] = []
        self._dream_px: list[Floats] = []
        self._dream_m: list[Floats] = []
        self._true_px: list[Floats] = []
        self._true_m: list[Floats] = []

    def __len__(self) -> int:
        return len(self._latents)

    def add(self, latent: Tensor, frame: NDArray[np.uint8], true_px: Floats, true_m: Floats) -> None:
        """One more step.

        Args:
            latent: What was dreamed, (C, h, w).
            frame: The real picture, uint8 (H, W, 3).
            true_px: Where the markers are found in it, px at 512, (N, 2), NaN where not.
            true_m: Where they really are, metres, (N, 2), NaN where unknown.
        """
        batch = latent.unsqueeze(0).clone()
        dreamed = decode_frames(self._model, batch)
        self._latents.append(batch)
        self._dreamed.append(dreamed[0])
        self._real.append(frame)
        self._dream_px.append(detect_all(dreamed, self._model.scene)[0])
        self._dream_m.append(locate(self._model, batch)[0])
        self._true_px.append(true_px)
        self._true_m.append(true_m)

    @property
    def latents(self) -> Tensor:
        """The dreamed latents, (T, C, h, w)."""
        return torch.cat(self._latents)

    @property
    def frames(self) -> NDArray[np.uint8]:
        """The real pictures, uint8 (T, H, W, 3)."""
        return np.stack(self._real)

    @property
    def track(self) -> OpenLoop:
        """The comparison so far, without baselines."""
        seen = np.stack(self._dream_px)
        return OpenLoop(
            self.number,
            self.kind,
            Reference(self._start_px, np.stack(self._true_px), np.stack(self._true_m)),
            hold_all(seen, self._start_px),
            np.asarray(np.isfinite(seen).all(axis=-1)),
            np.stack(self._dream_m),
        )

    def row(self) -> list[str]:
        """The newest step's line of the log."""
        return csv_row(self._model.scene, self.track, len(self))

    def footage(
        self, title: str, truth: Reference, figures: dict[str, Floats], turned: tuple[Floats, Floats] | None = None
    ) -> Footage:
        """The episode at its end, with its pictures.

        Args:
            title: What to call it in pictures.
            truth: With the baselines.
            figures: Of tokenizer and readout, as of `perception_figures`.
            turned: Heading errors and how sure headings are, (T,) each, where they are known.
        """
        track = dataclasses.replace(self.track, reference=truth, figures=figures)
        if turned is not None:
            track = dataclasses.replace(track, turned_deg=turned[0], sure=turned[1])
        return Footage(track, title, self.frames, np.stack(self._dreamed))
