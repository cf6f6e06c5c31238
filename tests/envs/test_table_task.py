import numpy as np
import pytest
import torch

from cosmos_isaac_wm.envs.batches import to_numpy
from cosmos_isaac_wm.envs.table_task import TableTask
from cosmos_isaac_wm.perception.readout import Located


class Eyes:
    """Stands in for a perception: the latent's first numbers are cube x, y, pusher x, y and the two presences."""

    readout = True
    device = torch.device("cpu")

    def __init__(self, scene):
        self.scene = scene
        self.latent_shape = (16, 4, 4)

    def locate(self, latents):
        values = latents.flatten(1)
        return Located(values[:, :4].unflatten(1, (2, 2)), values[:, 4:6])

    def decode(self, latents):
        return torch.full((len(latents), *self.scene.image_size, 3), 7, dtype=torch.uint8)


def latent(cube, pusher=(0.3, 0.3), presence=(1.0, 1.0)):
    values = torch.zeros(16 * 4 * 4)
    values[:6] = torch.tensor([*cube, *pusher, *presence])
    return values.reshape(1, 16, 4, 4)


def started(scene, cube=(0.0, 0.0), before=(0.0, 0.0), goal=(0.2, 0.0), **kwargs):
    task = TableTask(Eyes(scene), **kwargs)
    return task, begin(task, latent(before), latent(cube), {"goal": goal})


def begin(task, before, now, options=None, key=0):
    """Start the only episode, as environments do; its first observation and info."""
    context = torch.stack([before, now], dim=1)
    task.start(torch.ones(1, dtype=torch.bool), task.glimpse(context), torch.tensor([key]), options)
    return task.observe(now), task.info()


def step(task, newest):
    """Judge a step that led to a latent: observation, reward, terminated, truncated, info."""
    return *task.advance(newest, torch.zeros(1, 2)), task.info()


def test_the_pose_holds_positions_in_metres_then_velocities_in_metres_per_second(scene):
    _, (observation, _) = started(scene, cube=(0.1, 0.05), before=(0.08, 0.06))
    expected = [0.1, 0.05, 0.3, 0.3, 0.2, -0.1, 0.0, 0.0]  # 2 cm per step at 10 Hz
    assert np.allclose(observation["observation"], [expected], atol=1e-6)


def test_velocities_are_clipped_to_the_scenes_top_speed(scene):
    _, (observation, _) = started(scene, cube=(0.3, 0.0), before=(-0.3, 0.0))
    assert observation["observation"][0, 4] == scene.max_speed


def test_a_marker_that_was_never_seen_is_at_zero_and_has_no_position_in_info(scene):
    task = TableTask(Eyes(scene))
    there = latent((0.1, 0.1), presence=(1.0, 0.0))
    observation, info = begin(task, there, there)
    assert not observation["observation"][0, [2, 3, 6, 7]].any()
    assert not info["_pusher_position"][0]
    assert info["_cube_position"][0]


def test_an_object_that_fades_stays_where_it_was_and_ends_the_episode_as_untrustworthy(scene):
    task, _ = started(scene, cube=(0.1, 0.0))
    observation, _, terminated, truncated, info = step(task, latent((0.2, 0.0), presence=(0.1, 1.0)))
    assert np.allclose(observation["achieved_goal"], [[0.1, 0.0]])
    assert (terminated[0], truncated[0], info["is_success"][0]) == (False, True, False)


def test_a_latent_of_nan_ends_the_episode_and_shows_no_nan(scene):
    task, _ = started(scene)
    observation, reward, terminated, truncated, _ = step(task, latent((0, 0)) * torch.nan)
    assert observation["observation"].isfinite().all()
    assert reward.isfinite().all()
    assert (terminated[0], truncated[0]) == (False, True)


@pytest.mark.parametrize("radius", [None, 0.03])
def test_an_object_within_the_goal_radius_is_a_success_and_ends_the_episode(scene, radius):
    within = scene.goal_radius if radius is None else radius
    for distance, success in ((within - 0.001, True), (within + 0.001, False)):
        task, _ = started(scene, reward_type="sparse", goal=(0.2, 0.0), goal_radius=radius)
        _, reward, terminated, truncated, info = step(task, latent((0.2 - distance, 0.0)))
        assert (terminated[0], info["is_success"][0], truncated[0]) == (success, success, False)
        assert reward[0] == (0.0 if success else -1.0)


def test_leaving_the_workspace_ends_the_episode_and_costs_more_than_staying(scene):
    task, _ = started(scene)
    _, reward, terminated, _, info = step(task, latent((0.45, 0.0)))
    assert terminated[0]
    assert not info["is_success"][0]
    assert reward[0] < -scene.episode_steps
    task, _ = started(scene)
    assert not step(task, latent((0.41, 0.0)))[2][0]  # a centimetre is the readout's error


def test_an_object_far_outside_still_gives_observations_inside_their_space(scene):
    task, _ = started(scene)
    observation = to_numpy(step(task, latent((9.0, -9.0), pusher=(9.0, 9.0)))[0])
    assert {key: value[0] for key, value in observation.items()} in task.observation_space


def test_the_dense_reward_grows_towards_the_goal_and_lies_between_minus_one_and_zero(scene):
    task = TableTask(Eyes(scene))
    track = np.linspace([-0.4, -0.4], [0.4, 0.4], 9)
    rewards = task.compute_reward(track, np.broadcast_to([0.4, 0.4], track.shape), {})
    assert (np.diff(rewards) > 0).all()
    assert np.allclose(rewards[[0, -1]], [-1.0, 0.0])


def test_drawn_goals_lie_off_the_walls_and_away_from_the_object(scene):
    task = TableTask(Eyes(scene))
    there = latent((0.1, 0.1))
    goals = np.concatenate([begin(task, there, there, key=key)[0]["desired_goal"] for key in range(300)])
    assert np.abs(goals).max() <= 0.28
    assert np.linalg.norm(goals - 0.1, axis=1).min() >= 2 * scene.goal_radius
    assert goals.std(axis=0).min() > 0.1


def test_progress_pays_for_coming_nearer_and_for_success_and_has_no_goal_form(scene):
    task, _ = started(scene, cube=(0.0, 0.0), goal=(0.2, 0.0), reward_type="progress")
    assert not task.has_compute_reward
    nearer = step(task, latent((0.05, 0.0), pusher=(0.25, 0.3)))[1]
    agent = np.hypot(0.3, 0.3) - np.hypot(0.2, 0.3)
    assert nearer.tolist() == pytest.approx([20 * 0.05 + 2 * agent - 0.02])
    still = step(task, latent((0.05, 0.0), pusher=(0.25, 0.3)))[1]
    assert still.tolist() == pytest.approx([-0.02])
    arrived = step(task, latent((0.19, 0.0), pusher=(0.39, 0.3)))[1]
    assert arrived.tolist() == pytest.approx([20 * 0.14 - 0.02 + 5])
    away = step(task, latent((0.45, 0.0), pusher=(0.65, 0.3)))[1]
    assert away.tolist() == pytest.approx([20 * (0.01 - 0.25) - 0.02 - 5])


def test_a_fixed_goal_is_the_goal_of_every_episode(scene):
    task = TableTask(Eyes(scene), goal=(0.1, -0.1))
    assert np.allclose(begin(task, latent((0.2, 0.2)), latent((0.2, 0.2)))[1]["goal"], [[0.1, -0.1]])


def test_the_users_reward_sees_positions_before_and_after_and_decodes_frames_only_when_asked(scene):
    seen = []

    def reward_fn(outcome):
        seen.append(outcome)
        return outcome.positions["cube"][:, 0] - outcome.previous_positions["cube"][:, 0]

    task, _ = started(scene, reward_fn=reward_fn)
    reward = step(task, latent((0.03, 0.0)))[1]
    assert np.allclose(reward, 0.03)
    assert "frames" not in vars(seen[0])
    assert (seen[0].frames == 7).all()


@pytest.mark.parametrize("bad", [[np.nan], 1.0, [[0.0]]])
def test_a_users_reward_of_another_shape_or_not_finite_is_an_error(scene, bad):
    task, _ = started(scene, reward_fn=lambda outcome: bad)
    with pytest.raises(ValueError, match="reward_fn"):
        step(task, latent((0.0, 0.0)))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"obs_type": "poses"}, "unknown obs_type 'poses'"),
        ({"reward_type": "shaped"}, "unknown reward_type 'shaped'"),
        ({"max_episode_steps": 0}, "at least 1"),
        ({"goal": (0.5, 0.0)}, "workspace"),
        ({"goal": (np.nan, 0.0)}, "workspace"),
        ({"goal": (0.1, 0.0, 0.0)}, r"\(x, y\)"),
        ({"goal_radius": 0}, "goal_radius must be a positive number of metres, got 0"),
        ({"goal_radius": np.nan}, "goal_radius"),
        ({"goal_radius": "3 cm"}, "goal_radius"),
    ],
)
def test_a_wrong_argument_is_named(scene, arguments, words):
    with pytest.raises(ValueError, match=words):
        TableTask(Eyes(scene), **arguments)


def test_the_goal_marker_is_a_green_ring_around_the_projected_goal(scene):
    task, _ = started(scene, goal=(0.2, 0.1))
    frames = np.zeros((1, *scene.image_size, 3), np.uint8)
    rows, columns = np.nonzero(task.annotate(frames)[0, ..., 1])
    assert not frames.any()
    assert np.allclose([columns.mean(), rows.mean()], scene.to_pixels([0.2, 0.1]), atol=0.6)
