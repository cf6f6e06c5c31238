import numpy as np

from cosmos_isaac_wm.envs import DreamEnv
from cosmos_isaac_wm.policies import ExploringPusher, RandomPolicy
from cosmos_isaac_wm.sims.mujoco import MujocoTable


def episode(seed, steps=100):
    """Actions, cube track and contacts of one scripted episode, without pictures."""
    simulator, pusher = MujocoTable("push"), ExploringPusher(seed + 1)
    simulator.reset(seed)
    actions, cube, contact = [], [], []
    for _ in range(steps):
        actions.append(pusher(simulator.positions()))
        simulator.step(actions[-1])
        cube.append(simulator.positions()["cube"])
        contact.append(simulator.in_contact())
    return np.array(actions), np.array(cube), np.array(contact)


def test_actions_are_valid_and_reproducible():
    actions, *_ = episode(0)
    assert actions.dtype == np.float32
    assert np.abs(actions).max() <= 1.0
    np.testing.assert_array_equal(actions, episode(0)[0])
    assert not np.array_equal(actions, episode(1)[0])


def test_most_episodes_push_the_cube_and_all_have_steps_without_contact():
    runs = [episode(seed) for seed in range(8)]
    moved = [np.linalg.norm(np.diff(cube, axis=0), axis=1).sum() for _, cube, _ in runs]
    assert np.median(moved) > 0.15
    shares = [contact.mean() for *_, contact in runs]
    assert 0.05 < np.mean(shares) < 0.8
    assert max(shares) < 1.0


def test_random_actions_are_valid_and_reproducible(model):
    space = DreamEnv(model).action_space
    batch = {"observation": np.zeros((7, 8))}
    first, again = (RandomPolicy(space, 3).predict(batch)[0] for _ in range(2))
    assert np.array_equal(first, again)
    assert first.shape == (7, 2)
    assert all(space.contains(action) for action in first)
