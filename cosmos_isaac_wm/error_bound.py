"""How far may a dream be off by now? An estimate that follows it step by step, and the factor that makes it a bound.

The estimate is learned where dreams of training episodes met the truth. What it is worth is measured on validation
episodes: by the largest ratio of error to estimate in each the bound is scaled, so that it holds for nine in ten new
episodes of the same kind, at all their steps at once, for as many steps as these had, at most 100 (split conformal
prediction, Vovk et al.; the scores as of Lindemann et al., "Safe planning in dynamic environments using conformal
prediction").
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from .borders import own_draws
from .perception.readout import PRESENT, Located
from .storage.bundle import BundleError
from .storage.weights import load_weights, must_be_buildable

FILE = "error_bound.safetensors"  # of a bundle

LEVEL = 0.9  # share of episodes that a bound shall hold for
_LONG = 100.0  # steps, by which time is counted


@dataclass(frozen=True)
class ErrorBoundConfig:
    """Shape of an `ErrorBound`.

    Attributes:
        seen: Numbers that are read of a dreamed frame, I.
        actions: Dimensions of an action, A.
        outputs: Errors that are bounded, O: the object's, or one for every component of an observation.
        hidden: Numbers that are carried from step to step.
        kinds: Of the validation episodes.
        counts: How many there were of each.
        steps: For how many the usual error is known, T.
    """

    seen: int = 4
    actions: int = 2
    outputs: int = 1
    hidden: int = 16
    kinds: tuple[str, ...] = ("episode",)
    counts: tuple[int, ...] = (0,)
    steps: int = 100


class ErrorBound(nn.Module):
    """Follows a dream by what is read of it, and says how far it may be off.

    Args:
        config: Its shape.

    Attributes:
        least: Errors that are always possible, in the unit of the bounds, (O,).
        shift: Mean of what is read, (I,).
        spread: Its standard deviation, (I,).
        usual: What nine in ten training dreams of each kind are not off by after so many steps, (kinds, T, O).
        shares: How much an estimate of each kind follows that, instead of the dream, (kinds,).
        scores: Largest ratios of error to estimate of the validation episodes, kind after kind, each sorted, (n,).
        usual_scores: The same, of error to usual error: what a bound is scaled by that knows the step's number only.
    """

    least: Tensor
    shift: Tensor
    spread: Tensor
    usual: Tensor
    shares: Tensor
    scores: Tensor
    usual_scores: Tensor

    def __init__(self, config: ErrorBoundConfig):
        super().__init__()
        self.config = config
        self.register_buffer("least", torch.full((config.outputs,), 1e-3))
        self.register_buffer("shift", torch.zeros(config.seen))
        self.register_buffer("spread", torch.ones(config.seen))
        self.register_buffer("usual", torch.ones(len(config.kinds), config.steps, config.outputs))
        self.register_buffer("shares", torch.zeros(len(config.kinds)))
        self.register_buffer("scores", torch.ones(sum(config.counts)))
        self.register_buffer("usual_scores", torch.ones(sum(config.counts)))
        self.inputs = nn.Linear(2 * config.seen + config.actions + 1, 2 * config.hidden)
        self.cell = nn.GRUCell(2 * config.hidden, config.hidden)
        self.estimate = nn.Linear(config.hidden, config.outputs)

    @classmethod
    def load(cls, config: ErrorBoundConfig, folder: Path) -> ErrorBound:
        """That of a bundle's folder.

        Raises:
            BundleError: If its file is missing or damaged, or is of another shape.
        """
        try:
            must_be_buildable(config, lambda: cls(config), folder / FILE)
            with own_draws():
                bound = cls(config)
        except (ValueError, RuntimeError) as error:
            raise BundleError(f"{folder}/config.yaml describes no error bound: {error}") from error
        load_weights(bound, folder, FILE)
        return bound

    def begin(self, count: int) -> Tensor:
        """What is carried when n dreams begin, (n, hidden + 1)."""
        return self.least.new_zeros(count, self.config.hidden + 1)

    def follow(
        self, carried: Tensor, before: Tensor, seen: Tensor, actions: Tensor, kind: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """One step further.

        Args:
            carried: Of `begin`, or of the step before, (B, hidden + 1).
            before: What was read before the step, (B, I).
            seen: After it, (B, I).
            actions: That led there, scaled to [-1, 1], (B, A).
            kind: Number of the kind of episode, whose usual error has its share; none has when None.

        Returns:
            What is carried now, and how far the dream is estimated to be off, (B, O), in the unit of the bounds.
        """
        hidden, steps = carried[:, :-1], carried[:, -1:] + 1 / _LONG
        now = (seen - self.shift) / self.spread
        moved = 10 * (seen - before) / self.spread
        inputs = nn.functional.silu(self.inputs(torch.cat([now, moved, actions, steps], dim=1)))
        hidden = self.cell(inputs, hidden)
        estimate = self.least * (1 + self.estimate(hidden).clamp(-10, 12).exp())
        if kind is not None:
            place = (steps[:, 0] * _LONG).round().long().clamp(1, self.config.steps) - 1
            usual = self.usual[kind, place]
            estimate = estimate ** (1 - self.shares[kind]) * usual ** self.shares[kind]
        return torch.cat([hidden, steps], dim=1), estimate

    def along(self, seen: Tensor, actions: Tensor, kind: int | None = None) -> Tensor:
        """How far whole dreams, read as (n, T + 1, I) under actions (n, T, A), are estimated to be off, (n, T, O)."""
        carried, rows = self.begin(len(seen)), []
        for step in range(actions.shape[1]):
            carried, estimate = self.follow(carried, seen[:, step], seen[:, step + 1], actions[:, step], kind)
            rows.append(estimate)
        return torch.stack(rows, dim=1)

    def number(self, kind: str | None) -> int:
        """Of a kind; of that with the widest bound, by its usual errors, for another one, or None."""
        kinds, middle = self.config.kinds, self.usual.mean(dim=(1, 2)).tolist()
        if kind in kinds:
            return kinds.index(kind)
        worst = [float(part.quantile(LEVEL)) if len(part) else 1.0 for part in self._of_kinds(self.scores)]
        return max(range(len(kinds)), key=lambda number: worst[number] * middle[number])

    def _of_kinds(self, scores: Tensor) -> tuple[Tensor, ...]:
        return scores.split(list(self.config.counts))

    def factor(self, kind: str | None = None, level: float = LEVEL, usual: bool = False) -> float:
        """What estimates are multiplied with for a bound that holds over whole episodes.

        Args:
            kind: Of episode, as of `number`.
            level: Share of episodes that it shall hold for.
            usual: Of the usual error instead.

        Raises:
            ValueError: If there were too few validation episodes for that; says how many are needed.
        """
        number = self.number(kind)
        every = self.usual_scores if usual else self.scores
        scores, kind = self._of_kinds(every)[number], self.config.kinds[number]
        place = math.ceil((len(scores) + 1) * level)
        if place > len(scores):
            raise ValueError(
                f"{len(scores)} validation episodes of kind {kind!r} are too few for a bound that holds for "
                f"{100 * level:g} %: {enough(level)} are needed"
            )
        return float(scores[place - 1])


class Follower:
    """Follows B dreams that go on together, and bounds how far they may be off.

    A dream's step is short, so whatever stays as it is from step to step is computed once.

    Args:
        bound: A bundle's.
        number: Of the kind of episode (`ErrorBound.number`).
        factor: That makes estimates bounds.
        count: B.
    """

    @torch.no_grad()
    def __init__(self, bound: ErrorBound, number: int, factor: float, count: int):
        config, share = bound.config, float(bound.shares[number])
        seen, moved, rest = bound.inputs.weight.split([config.seen, config.seen, config.actions + 1], dim=1)
        before = -10 * moved / bound.spread
        self._weight = torch.cat([seen / bound.spread - before, before, rest], dim=1)
        self._weight[:, -1] /= _LONG
        self._weight = self._weight.T.contiguous()
        self._bias = bound.inputs.bias - (seen / bound.spread) @ bound.shift
        usual = factor * bound.least ** (1 - share) * bound.usual[number] ** share
        self._usual = torch.cat([usual[:1], usual])  # by the number of steps
        cell, last = bound.cell, bound.estimate  # their weights: calling a module takes longer than what it does here
        self._cell = [each.detach() for each in (cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)]
        self._last = last.bias.detach(), last.weight.detach().T
        self._power = 1 - share
        self.hidden = bound.least.new_zeros(count, config.hidden)
        self.before = bound.least.new_zeros(count, config.seen)
        self.now = bound.least.new_zeros(count, config.outputs)

    def start(self, which: Tensor, seen: Tensor) -> None:
        """Begin anew with the dreams of a mask (B,), of which so much was read, (B, I)."""
        chosen = which.unsqueeze(1)
        self.before.copy_(torch.where(chosen, seen, self.before))
        self.hidden.masked_fill_(chosen, 0.0)
        self.now.masked_fill_(chosen, 0.0)

    def step(self, seen: Tensor, actions: Tensor, steps: Tensor) -> Tensor:
        """One step further, as of `ErrorBound.follow`.

        Args:
            seen: What is read now, (B, I).
            actions: That led there, scaled to [-1, 1], (B, A).
            steps: How many there have been, this one among them, int64 (B,).

        Returns:
            What the dreams are not off by, (B, O).
        """
        known = torch.cat([seen, self.before, actions, steps.to(seen.dtype).unsqueeze(1)], dim=1)
        inputs = nn.functional.silu(torch.addmm(self._bias, known, self._weight), inplace=True)
        self.hidden.copy_(torch.gru_cell(inputs, self.hidden, *self._cell))
        bias, weight = self._last
        grown = torch.addmm(bias, self.hidden, weight).clamp_(-10, 12).exp_().add_(1).pow_(self._power)
        usual = self._usual.index_select(0, steps.clamp(max=len(self._usual) - 1))
        torch.mul(usual, grown, out=self.now)
        self.before.copy_(seen)
        return self.now


def enough(level: float) -> int:
    """How many validation episodes a bound of a level needs."""
    return math.ceil(level / (1 - level) - 1e-9)


def read_of(located: Located) -> Tensor:
    """What an error bound is shown of the table: positions of what is there, and whether it is, (B, 3 N)."""
    there, positions = located.presence > PRESENT, located.positions
    return torch.cat([positions.where(there.unsqueeze(2), 0.0).flatten(1), there.to(positions.dtype)], dim=1)
