import numpy as np
import pytest

from cosmos_isaac_wm.policies.transfer.correlation import correlate, rank_violation


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


def test_a_dream_that_orders_policies_as_reality_does_violates_no_rank():
    assert rank_violation([0.1, 0.5, 0.9], [0.3, 0.4, 0.8]) == 0
    assert rank_violation([0.5, 0.5], [0.4, 0.9]) == pytest.approx(0.25)  # alike in the dream only


def test_every_policy_counts_by_its_worst_wrong_comparison():
    # The dream takes the best for the worst: two are ranked wrongly against it, by 0.9 and 0.5; it itself by 0.9.
    assert rank_violation([0.5, 0.6, 0.1], [0.0, 0.4, 0.9]) == pytest.approx((0.9 + 0.5 + 0.9) / 3)
