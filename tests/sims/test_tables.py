import importlib.util

import numpy as np
import pytest

from cosmos_isaac_wm.sims.mujoco import MujocoTable
from cosmos_isaac_wm.sims.tables import new_tables

SIZE = (16, 16)


def test_a_batch_of_one_in_mujoco_is_that_table():
    tables, table = new_tables("mujoco", "push", 1, SIZE), MujocoTable("push", SIZE)
    tables.reset([3])
    table.reset(3)
    for action in np.random.default_rng(0).uniform(-1, 1, (5, 2)).astype(np.float32):
        tables.step(action[None])
        table.step(action)
    (row,) = tables.observe()
    assert np.array_equal(row["state"], table.get_state())
    assert np.array_equal(row["cube_pose"], table.cube_pose())
    assert {"cube_position", "pusher_position", "contact"} < row.keys()
    assert tables.metadata() == table.metadata()
    assert tables.scene == table.scene


def test_tables_go_back_to_states_and_are_jittered_around_them():
    tables = new_tables("mujoco", "push", 1, SIZE)
    tables.reset([3])
    state = tables.observe()[0]["state"]
    tables.step(np.ones((1, 2), np.float32))
    tables.restart(state[None])
    assert np.array_equal(tables.observe()[0]["state"], state)
    tables.perturb([np.random.default_rng(0)], 1e-3, 0.01)
    moved = tables.observe()[0]["state"] - state
    assert 0 < np.abs(moved).max() < 0.1


def test_several_tables_of_mujoco_need_several_processes():
    with pytest.raises(ValueError, match="one table in a process, not 4"):
        new_tables("mujoco", "push", 4, SIZE)


@pytest.mark.skipif(importlib.util.find_spec("isaaclab") is not None, reason="Isaac Lab is here")
def test_isaac_lab_is_asked_for_where_it_is_missing():
    with pytest.raises(ImportError, match=r"docs/isaac\.md"):
        new_tables("isaac-lab", "push", 4, SIZE)
