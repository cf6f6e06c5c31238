"""How far may each dream be off by now, and what follows from it? A bundle's error bound, beside any task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Literal, TypedDict

import numpy as np
import torch
from torch import Tensor

from ..error_bound import ErrorBound, Follower
from ..perception.readout import Located
from ..worlds import Glimpse, Infos, Observation
from .batches import for_all

Trust = Literal["report", "truncate", "penalise"]
TRUST = ("report", "truncate", "penalise")


class TrustOptions(TypedDict, total=False):
    """What follows from a bundle's error bound.

    Attributes:
        trust: "report" it in the infos (default); "truncate" a dream that may be off by more than `max_error`; or
            "penalise": take `trust_weight` times it from the reward.
        max_error: Metres of the object's position, or standard deviations of a twin's observation; two radii of the
            goal, or one, when None.
        trust_weight: Reward per metre, or per standard deviation; 1 by default.
    """

    trust: Trust
    max_error: float | None
    trust_weight: float


class Trusting(ABC):
    """Beside a task that it is mixed into: follows how far each of the B dreams may be off.

    In the infos "error_bound" is the object's, in metres, (B,), or that of every component of a twin's observation, in
    its units, (B, D); 0 where a dream begins.
    """

    def begin_trusting(
        self,
        bound: ErrorBound,
        kind: str | None,
        most: float,
        trust: Trust = "report",
        max_error: float | None = None,
        trust_weight: float = 1.0,
    ) -> None:
        """Be given the bound, once.

        Args:
            bound: The bundle's.
            kind: Of episodes that the dreams begin like; any when None.
            most: What `max_error` is where nobody says.
            trust: As of `TrustOptions`.
            max_error: See there.
            trust_weight: See there.

        Raises:
            ValueError: If an option is impossible.
        """
        task: Any = self
        if trust not in TRUST:
            raise ValueError(f"unknown trust {trust!r}; expected one of {TRUST}")
        if max_error is not None and trust != "truncate":
            raise ValueError(f'max_error ends nothing with trust={trust!r}: pass trust="truncate"')
        if trust_weight != 1.0 and trust != "penalise":
            raise ValueError(f'trust_weight costs nothing with trust={trust!r}: pass trust="penalise"')
        if not np.isfinite(trust_weight):
            raise ValueError(f"trust_weight must be a finite number, got {trust_weight}")
        factor, count = bound.factor(kind), len(task.steps)
        self._trust, self._weight = trust, trust_weight
        self._most = most if max_error is None else max_error
        if trust == "truncate" and not self._most > (least := factor * float(bound.least.min())):
            raise ValueError(f"max_error {self._most:g} is never kept: any dream may be off by {least:.3g}")
        self._follower = Follower(bound, bound.number(kind), factor, count)

    @property
    def remembered(self) -> dict[str, Tensor]:
        """See `Task`."""
        follower = self._follower
        own = {"trust": follower.hidden, "trust_before": follower.before, "trust_now": follower.now}
        return {**super().remembered, **own}  # type: ignore[misc]

    def glimpse(self, latents: Tensor, past: Tensor | None = None) -> Glimpse:
        """See `Task`."""
        seen: Glimpse = super().glimpse(latents, past)  # type: ignore[misc]
        return Glimpse((*seen.parts, self._read_first(latents, seen)))

    def start(self, which: Tensor, glimpse: Glimpse, keys: Tensor, options: Mapping[str, Any] | None = None) -> None:
        """See `Task`."""
        *parts, first = glimpse.parts
        super().start(which, Glimpse(tuple(parts)), keys, options)  # type: ignore[misc]
        self._follower.start(which, first)

    @torch.no_grad()
    def advance(
        self, latents: Tensor, actions: Tensor, located: Located | None = None
    ) -> tuple[Observation, Tensor, Tensor, Tensor]:
        """See `Task`."""
        task: Any = self
        observation, rewards, terminated, truncated = super().advance(latents, actions, located)  # type: ignore[misc]
        scaled = task.perception.scale_actions(actions)
        bounds = self._follower.step(self._read_now(latents, located), scaled, task.steps)
        if self._trust == "truncate":
            truncated = truncated | (bounds.amax(dim=1) > self._most)
        elif self._trust == "penalise":
            rewards = rewards - self._weight * bounds.amax(dim=1)
        return observation, rewards, terminated, truncated

    def info(self) -> Infos:
        """See `Task`."""
        return super().info() | for_all("error_bound", self._in_units(self._follower.now))  # type: ignore[misc, no-any-return]

    @abstractmethod
    def _read_first(self, latents: Tensor, seen: Glimpse) -> Tensor:
        """What is read where contexts (n, K, C, h, w) end, (n, I)."""

    @abstractmethod
    def _read_now(self, latents: Tensor, located: Located | None) -> Tensor:
        """What is read of the newest latents, (B, I)."""

    @abstractmethod
    def _in_units(self, bounds: Tensor) -> Tensor:
        """Bounds (B, O) as they are told."""
