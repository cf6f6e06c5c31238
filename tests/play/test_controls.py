"""Are a page's keys, sticks and sliders turned into actions, and nothing else taken?"""

import dataclasses

import numpy as np
import pytest
from gymnasium import spaces

from cosmos_isaac_wm.play.controls import Controls
from cosmos_isaac_wm.scene import TABLE

OTHER = dataclasses.replace(TABLE, markers=(), agent=None)


def test_deflections_reach_from_no_action_to_the_bounds():
    controls = Controls(spaces.Box(np.array([-1, -4], np.float32), np.array([2, 4], np.float32)), OTHER)
    np.testing.assert_equal(controls.rest(), np.zeros(2, np.float32))
    np.testing.assert_equal(controls.action([1, -1]), np.array([2, -4], np.float32))
    np.testing.assert_equal(controls.action([-0.5, 0.5]), np.array([-0.5, 2], np.float32))
    assert controls.deflections(np.array([-0.5, 2])) == [-0.5, 0.5]


def test_where_zero_is_no_value_the_middle_is_the_rest():
    controls = Controls(spaces.Box(0, 10, (1, 2), np.float32), OTHER)
    np.testing.assert_equal(controls.rest(), np.full((1, 2), 5, np.float32))


def test_without_bounds_a_deflection_is_the_value():
    controls = Controls(spaces.Box(-np.inf, np.inf, (1,), np.float32), OTHER)
    assert controls.action([0.5]) == 0.5


@pytest.mark.parametrize(("low", "high", "shown"), [(5, np.inf, (5, 6)), (-np.inf, -3, (-4, -3)), (0, np.inf, (0, 1))])
def test_half_a_bound_leaves_room_beyond_the_other(low, high, shown):
    controls = Controls(spaces.Box(low, high, (1,), np.float32), OTHER)
    assert (controls.action([-1]), controls.action([1])) == shown


def test_choices_are_counted_from_zero_whatever_the_environment_calls_them():
    controls = Controls(spaces.Discrete(3, start=4), OTHER)
    assert controls.described() == {"kind": "discrete", "count": 3, "names": ["0", "1", "2"]}
    assert controls.action(2) == 6
    assert controls.deflections(np.array([0, 0, 1], np.float32)) == 2


def test_the_tables_dimensions_have_names():
    assert Controls(spaces.Box(-1, 1, (2,)), TABLE).described()["names"] == ["right", "away"]


@pytest.mark.parametrize("asked", [None, "up", 0.5, [0], [0, 2], [0, float("nan")], [0, True], [[0], [0]], {"x": 1}])
def test_what_is_no_deflection_is_refused(asked):
    with pytest.raises(ValueError, match=r"expected 2 deflections in \[-1, 1\]"):
        Controls(spaces.Box(-1, 1, (2,)), TABLE).action(asked)


@pytest.mark.parametrize("asked", [None, -1, 3, True, 1.0, [1]])
def test_what_is_no_choice_is_refused(asked):
    with pytest.raises(ValueError, match="expected a choice from 0 to 2"):
        Controls(spaces.Discrete(3), OTHER).action(asked)


@pytest.mark.parametrize("space", [spaces.MultiDiscrete([2, 2]), spaces.Discrete(1000)])
def test_actions_that_no_page_can_have_are_refused(space):
    with pytest.raises(ValueError, match="can be played"):
        Controls(space, OTHER)
