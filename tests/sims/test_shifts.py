"""Are shifted tables other worlds, in the one thing that they say?"""

import numpy as np
import pytest

from cosmos_isaac_wm.sims.mujoco import MujocoTable
from cosmos_isaac_wm.sims.shifts import SHIFTS, ShiftedTable, shifts_of

RIGHT = np.array([1.0, 0.0], np.float32)


def track(table, steps=30, action=RIGHT, **start):
    table.reset(3, start or None)
    rows = []
    for _ in range(steps):
        table.step(action)
        rows.append(np.concatenate([*table.positions().values()]))
    return np.array(rows)


def test_without_a_shift_it_is_the_table_that_is_recorded():
    assert np.array_equal(track(ShiftedTable("push")), track(MujocoTable("push")))


def test_friction_stops_a_slide_sooner_and_a_twice_as_heavy_cube_slides_alike():
    usual, less, more, heavy = (
        track(ShiftedTable("slide", shift)) for shift in (None, "friction_half", "friction_double", "mass_double")
    )

    def way(rows):
        return np.linalg.norm(np.diff(rows, axis=0), axis=1).sum()

    assert way(more) < 0.9 * way(usual) < 0.9 * way(less)
    assert np.abs(heavy - usual).max() < 2e-3
    assert "mass_double" not in shifts_of("slide")


def test_a_heavier_cube_holds_the_pusher_up():
    start = {"cube": (0.0, 0.0), "pusher": (-0.1, 0.0)}
    usual, heavy = (track(ShiftedTable("push", shift), 20, **start) for shift in (None, "mass_double"))
    assert heavy[-1, 2] < usual[-1, 2] - 1e-3


def test_with_late_control_the_first_action_is_none_and_the_others_follow():
    late, usual = ShiftedTable("push", "delay"), MujocoTable("push")
    actions = np.random.default_rng(0).uniform(-1, 1, (6, 2)).astype(np.float32)
    for attempt in range(2):  # a reset forgets the action before
        late.reset(attempt)
        usual.reset(attempt)
        usual.step(np.zeros(2, np.float32))
        for action in actions:
            late.step(action)
        for action in actions[:-1]:
            usual.step(action)
        assert np.array_equal(late.get_state(), usual.get_state())


@pytest.mark.opengl
def test_the_lamp_changes_pictures_only():
    tables = [ShiftedTable("push", shift, (64, 64)) for shift in (None, "lamp")]
    assert np.array_equal(*(track(table, 5) for table in tables))
    pictures = [table.render().astype(float) for table in tables]
    assert np.abs(pictures[0] - pictures[1]).mean() > 1


def test_an_unknown_shift_is_an_error():
    assert len(SHIFTS) == 5
    with pytest.raises(ValueError, match="unknown shift 'gravity'; expected one of"):
        ShiftedTable("push", "gravity")
