import numpy as np
import pytest

from cosmos_isaac_wm.evaluation.diversity import _spread, diversity


def test_a_model_without_noise_has_no_diversity(world_model, dataset):
    assert diversity(world_model, dataset, seed=0) == {}


def test_spread_is_the_distance_from_the_mean():
    assert _spread(np.array([[0.0, 0.0], [0.0, 2.0]])) == pytest.approx(1.0)
    assert _spread(np.ones((5, 2))) == 0.0
