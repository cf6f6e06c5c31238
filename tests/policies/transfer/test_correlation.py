import numpy as np
import pytest

from cosmos_isaac_wm.policies.transfer import correlate


def test_correlation_is_that_of_the_rates_with_an_interval_around_it():
    dream, real = np.linspace(0, 1, 12), np.linspace(0, 1, 12) ** 2
    found = correlate(dream, real)
    assert found.spearman == pytest.approx(1.0)
    assert 0.9 < found.pearson < 1.0
    assert found.pearson_interval[0] <= found.pearson <= found.pearson_interval[1]
    noisy = correlate(dream, np.random.default_rng(0).uniform(size=12))
    assert noisy.spearman_interval[1] - noisy.spearman_interval[0] > 0.4
    with pytest.raises(ValueError, match="three policies"):
        correlate([0.1, 0.2], [0.1, 0.2])
