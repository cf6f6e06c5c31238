"""Do intervals of few real and many dreamed episodes hold the rate as often as they say?"""

import importlib.util

import numpy as np
import pytest

from cosmos_isaac_wm.policies.transfer import BothWorlds, Played, prediction_powered, transfer_figures
from cosmos_isaac_wm.policies.transfer.prediction_powered import must_be_installed, real_interval

needs_ppi = pytest.mark.skipif(importlib.util.find_spec("ppi_py") is None, reason="needs the extra ppi")


def pairs(rng, real, dream, correlation, count):
    """Success of the same episodes in reality and in the dream."""
    both = real * dream + correlation * np.sqrt(real * (1 - real) * dream * (1 - dream))
    cells = np.array([both, real - both, dream - both, 1 - real - dream + both])
    drawn = rng.choice(4, size=count, p=cells)
    return np.isin(drawn, (0, 1)), np.isin(drawn, (0, 2))


@needs_ppi
@pytest.mark.parametrize("count", [10, 40])
@pytest.mark.parametrize(
    ("real", "dream", "correlation"),
    [
        (0.5, 0.5, 0.8),
        (0.7, 0.8, 0.5),
        (0.9, 0.95, 0.3),
        (0.98, 0.99, 0.5),
        (0.6, 0.9, 0.3),
        (0.05, 0.03, 0.5),
        (0.5, 1.0, 0),
        (0.97, 0.97, 0),
    ],
)
def test_nine_in_ten_intervals_hold_the_rate(real, dream, correlation, count):
    rng, held = np.random.default_rng(0), []
    for _ in range(400):
        true, dreamed = pairs(rng, real, dream, correlation, count + 200)
        found = real_interval(true[:count], dreamed, 0.9)
        held.append(found.low <= real <= found.high)
    assert np.mean(held) >= 0.9 - 3 * np.sqrt(0.9 * 0.1 / 400)


@needs_ppi
def test_dreams_that_agree_make_it_narrower_and_others_do_little_harm():
    rng = np.random.default_rng(1)
    ratios = {}
    for correlation in (0.0, 0.9):
        drawn = [pairs(rng, 0.7, 0.7, correlation, 340) for _ in range(50)]
        ratios[correlation] = np.mean([real_interval(true[:40], dreamed).ratio for true, dreamed in drawn])
    assert ratios[0.9] < 0.8
    assert 0.9 < ratios[0.0] < 1.1


@needs_ppi
def test_it_is_told_for_every_policy_of_which_fewer_episodes_are_real():
    def played(success):
        return Played(list(success), [0.0] * len(success), [0.1] * len(success), [9] * len(success))

    true, dreamed = pairs(np.random.default_rng(0), 0.7, 0.8, 0.6, 100)
    rows = {"few": BothWorlds(played(dreamed), played(true[:20])), "all": BothWorlds(played(dreamed), played(true))}
    found = transfer_figures(rows, {"few": "random", "all": "scripted"})
    expected = real_interval(true[:20], dreamed)
    assert found["few_real_interval_low"] == expected.low < expected.high == found["few_real_interval_high"]
    assert found["real_interval_ratio"] == found["few_real_interval_ratio"] == expected.ratio
    assert "all_real_interval_low" not in found
    alone = transfer_figures({"none": BothWorlds(played(dreamed), Played())}, {"none": "random"})
    assert alone == {"none_dream_success": np.mean(dreamed)}


@needs_ppi
def test_too_few_episodes_are_an_error():
    for real, dream in (([True] * 9, [True] * 50), ([True] * 20, [True] * 20)):
        with pytest.raises(ValueError, match="10 real episodes or more, and more dreamed ones"):
            real_interval(real, dream)


def test_without_the_library_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(prediction_powered.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'cosmos-isaac-wm\[ppi\]'"):
        must_be_installed()
