"""How are better action sequences found? Distributions over them, which the costs of what they led to make better."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class Search(Protocol):
    """A distribution over action sequences (T, A) in [-1, 1], which costs make better.

    Attributes:
        population: Sequences that are tried at once, P.
        iterations: How often per plan.
    """

    population: int
    iterations: int

    def begin(self, mean: Tensor) -> None:
        """Search anew around a sequence (T, A)."""

    def sample(self, generator: torch.Generator) -> Tensor:
        """Sequences to try, (P, T, A)."""

    def update(self, actions: Tensor, costs: Tensor) -> None:
        """Learn what the tried ones (P, T, A) cost, (P,)."""

    def plan(self) -> Tensor:
        """The sequence to follow, (T, A)."""


class _Gaussian:
    """A Gaussian for every step, with noise that is correlated in time.

    Args:
        population: Sequences that are tried at once, P.
        iterations: How often per plan.
        std: Standard deviation to begin with, as a share of the greatest action.
        beta: Exponent of the noise's spectrum: 0 is white, 2 a random walk, which goes further.
    """

    def __init__(self, population: int, iterations: int, std: float, beta: float):
        if not std > 0:
            raise ValueError(f"the standard deviation must be above 0, got {std}")
        if population < 2 or iterations < 1:
            raise ValueError(f"a search needs 2 sequences and 1 iteration or more, got {population} and {iterations}")
        self.population, self.iterations = population, iterations
        self._initial, self._beta = std, beta
        self._mean = self._std = torch.zeros(0, 0, dtype=torch.float32, device="cpu")

    def begin(self, mean: Tensor) -> None:
        """See `Search`."""
        self._mean, self._std = mean, torch.full_like(mean, self._initial)

    def sample(self, generator: torch.Generator) -> Tensor:
        """See `Search`; the first is the mean."""
        steps, dim = self._mean.shape
        shape, cpu = (self.population, dim, 2 * steps), torch.device("cpu")
        white = torch.randn(shape, generator=generator, dtype=torch.float32, device=cpu)
        frequencies = torch.fft.rfftfreq(2 * steps, dtype=torch.float32, device=cpu)
        frequencies[0] = frequencies[1]  # the slowest has a finite share
        coloured = torch.fft.irfft(torch.fft.rfft(white) * frequencies ** (-self._beta / 2), n=2 * steps)[..., :steps]
        noise = (coloured / coloured.std()).transpose(1, 2)
        actions = (self._mean + self._std * noise).clamp(-1, 1)
        actions[0] = self._mean
        return actions

    def plan(self) -> Tensor:
        """See `Search`."""
        return self._mean


class CEM(_Gaussian):
    """Cross-entropy method: the Gaussian is refitted to the cheapest sequences (Rubinstein and Kroese, 2004).

    Args:
        population: As of `Search`.
        iterations: As of `Search`.
        elites: How many sequences it is refitted to.
        std: Standard deviation to begin with.
        beta: Colour of the noise.
    """

    def __init__(self, population: int = 32, iterations: int = 2, elites: int = 8, std: float = 0.7, beta: float = 0.0):
        super().__init__(population, iterations, std, beta)
        if not 2 <= elites < population:
            raise ValueError(f"elites are 2 or more of the population of {population}, got {elites}")
        self._count = elites

    def update(self, actions: Tensor, costs: Tensor) -> None:
        """See `Search`."""
        elites = actions[costs.argsort()[: self._count]]
        self._mean, self._std = elites.mean(dim=0), elites.std(dim=0).clamp(min=0.05)


class ICEM(CEM):
    """Sample-efficient cross-entropy method: coloured noise, elites that are tried again, and the best one is followed.

    After Pinneri et al. (2020); the population stays as large as it is, which costs nothing in a batch.

    Args:
        population: As of `Search`.
        iterations: As of `Search`.
        elites: How many sequences the Gaussian is refitted to.
        std: Standard deviation to begin with.
        beta: Colour of the noise.
        kept: How many elites are tried again.
    """

    def __init__(
        self,
        population: int = 32,
        iterations: int = 2,
        elites: int = 8,
        std: float = 0.7,
        beta: float = 2.0,
        kept: int = 4,
    ):
        super().__init__(population, iterations, elites, std, beta)
        if not 1 <= kept < population:
            raise ValueError(f"1 or more of the population of {population} are kept, not {kept}")
        self._kept = kept
        self._elites = torch.zeros(0, 0, 0, dtype=torch.float32, device="cpu")

    def begin(self, mean: Tensor) -> None:
        """See `Search`."""
        super().begin(mean)
        self._elites = mean.new_zeros(0, *mean.shape)

    def sample(self, generator: torch.Generator) -> Tensor:
        """See `Search`."""
        actions = super().sample(generator)
        actions[1 : 1 + len(self._elites)] = self._elites
        return actions

    def update(self, actions: Tensor, costs: Tensor) -> None:
        """See `Search`."""
        super().update(actions, costs)
        self._elites = actions[costs.argsort()[: self._kept]]

    def plan(self) -> Tensor:
        """See `Search`."""
        return self._elites[0]


class MPPI(_Gaussian):
    """Model predictive path integral control: the mean of all, weighted by exp(-cost / temperature).

    After Williams et al. (2017).

    Args:
        population: As of `Search`.
        iterations: As of `Search`.
        temperature: In units of the costs' standard deviation.
        std: Standard deviation of the noise.
        beta: Colour of the noise.
    """

    def __init__(
        self,
        population: int = 32,
        iterations: int = 2,
        temperature: float = 0.2,
        std: float = 0.7,
        beta: float = 2.0,
    ):
        super().__init__(population, iterations, std, beta)
        if not temperature > 0:
            raise ValueError(f"the temperature must be above 0, got {temperature}")
        self._temperature = temperature

    def update(self, actions: Tensor, costs: Tensor) -> None:
        """See `Search`."""
        scale = self._temperature * costs.std().clamp(min=1e-9)
        weights = torch.softmax(-costs / scale, dim=0)
        self._mean = torch.einsum("p,pta->ta", weights, actions)


SEARCHES: dict[str, type[CEM | ICEM | MPPI]] = {"cem": CEM, "icem": ICEM, "mppi": MPPI}
