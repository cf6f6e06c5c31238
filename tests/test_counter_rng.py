import numpy as np
import pytest
import torch
from scipy import stats

from cosmos_isaac_wm.counter_rng import mixed, normal, uniform

MASK = 2**64 - 1


def splitmix64(seed: int, count: int) -> list[int]:
    """The published generator, in Python's own integers."""
    found = []
    for _ in range(count):
        seed = (seed + 0x9E3779B97F4A7C15) & MASK
        bits = seed
        bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & MASK
        found.append(bits ^ (bits >> 31))
    return found


@pytest.mark.parametrize("seed", [0, 1234567, 2**63 - 1])
def test_draws_of_a_key_are_those_of_splitmix64(seed):
    drawn = mixed(torch.tensor(seed), torch.arange(5))
    assert [number & MASK for number in drawn.tolist()] == splitmix64(seed, 5)


def test_uniform_numbers_are_uniform_and_independent_of_their_company():
    keys = mixed(torch.tensor(3), torch.arange(20_000))
    numbers = uniform(keys)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert stats.kstest(numbers.numpy(), "uniform").pvalue > 0.01
    assert torch.equal(uniform(keys[7:9]), numbers[7:9])
    assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 0.02
    assert abs(np.corrcoef(uniform(keys, 0), uniform(keys, 1))[0, 1]) < 0.02


def test_normal_numbers_are_normal():
    numbers = normal(mixed(torch.tensor(5), torch.arange(4000)), 3)
    assert numbers.shape == (4000, 3)
    assert numbers.dtype == torch.float32
    assert numbers.isfinite().all()
    assert stats.kstest(numbers.flatten().numpy(), "norm").pvalue > 0.01
    assert abs(np.corrcoef(numbers[:, 0], numbers[:, 1])[0, 1]) < 0.05
