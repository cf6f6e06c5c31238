import pytest

from cosmos_isaac_wm.training.clock import Budget, trapezoid


def test_progress_is_that_of_whichever_is_further():
    assert Budget(100).progress(50, 1e9) == 0.5
    timed = Budget(100, minutes=1.0)
    assert timed.progress(50, 6.0) == 0.5
    assert timed.progress(5, 30.0) == 0.5
    assert timed.progress(5, 60.0) == 1.0


def test_time_for_a_validation_is_kept():
    timed = Budget(100, minutes=1.0).must_allow(10.0, "--fit.minutes")
    assert timed.progress(0, 50.0) == 1.0
    assert Budget(100).must_allow(10.0, "--fit.minutes") == Budget(100)
    with pytest.raises(ValueError, match=r"--fit.minutes 1 is too short.* 40.0 s.* at least 2"):
        Budget(100, minutes=1.0).must_allow(40.0, "--fit.minutes")


def test_the_learning_rate_rises_is_flat_and_falls():
    rates = [trapezoid(update / 100, 0.01, 0.1, 0.25) for update in range(101)]
    assert rates[:3] == pytest.approx([0.1, 0.2, 0.3])
    assert rates[9:76] == pytest.approx([1.0] * 67)
    assert rates[-3:] == pytest.approx([0.08, 0.04, 0.0])
    assert trapezoid(0.0, 0.5, 0.0, 0.0) == trapezoid(0.5, 0.5, 0.0, 0.0) == 1.0  # two updates, both at the peak
