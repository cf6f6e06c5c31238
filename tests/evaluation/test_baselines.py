import dataclasses

import numpy as np
import pytest

from cosmos_isaac_wm.data import Episode
from cosmos_isaac_wm.evaluation import baselines
from cosmos_isaac_wm.scene import TABLE
from cosmos_isaac_wm.sims import new_simulator
from cosmos_isaac_wm.sims.mujoco import MujocoTable


def physics_episode(kind: str, steps: int = 30) -> Episode:
    """Real physics and states with blank pictures, so that no OpenGL is needed."""
    simulator = MujocoTable(kind)
    simulator.reset(3, {"cube": (0.0, 0.1), "pusher": (0.0, -0.1)})
    actions = np.tile(np.float32([0.1, 0.9]), (steps, 1))
    states, places = [simulator.get_state()], [simulator.positions()]
    for action in actions:
        simulator.step(action)
        states.append(simulator.get_state())
        places.append(simulator.positions())
    positions = {name: np.stack([place[name] for place in places]).astype(np.float32) for name in places[0]}
    frames = np.zeros((steps + 1, 8, 8, 3), np.uint8)
    return Episode(frames, actions, kind, 3, positions, {"state": np.stack(states)})


def test_constant_velocity_goes_on_in_a_straight_line():
    context = np.array([[9.0, 9.0], [200.0, 220.0], [203.0, 218.0]])
    track = baselines.constant_velocity(context, 3, TABLE)
    assert track.tolist() == [[206, 216], [209, 214], [212, 212]]


def test_constant_velocity_stops_where_the_workspace_ends():
    context = np.array([[200.0, 250.0], [230.0, 250.0]])
    track = baselines.constant_velocity(context, 50, TABLE)
    corner = TABLE.to_pixels([(0.4, -0.4)])[0] * 4
    assert track[-1, 0] == pytest.approx(corner[0])
    assert track[-1, 1] == 250


def test_constant_velocity_stops_at_the_edge_of_the_picture_without_a_camera():
    scene = dataclasses.replace(TABLE, camera=None)
    track = baselines.constant_velocity(np.array([[500.0, 4.0], [505.0, 2.0]]), 9, scene)
    assert track[-1].tolist() == [127 * 4, 0]


@pytest.mark.parametrize("kind", ["push", "slide"])
def test_without_noise_the_restarted_simulator_repeats_the_episode(kind, monkeypatch):
    monkeypatch.setattr(baselines, "NOISE", (0.0, 0.0))
    episode = physics_episode(kind)
    simulator = baselines.simulator_for({"simulator": "mujoco"}, episode, TABLE)
    assert np.ptp(episode.positions["cube"], axis=0).max() > 0.05
    errors = baselines.predictability_floor(simulator, TABLE, episode, 3, 27, np.random.default_rng(0), draws=1)
    assert errors.shape == (1, 27, 2)
    assert np.isnan(errors[..., 1]).all() == (kind == "slide")  # no pusher there
    assert np.nanmax(errors) < 1e-3


def test_the_floor_is_drawn_with_the_given_generator_and_starts_at_the_size_of_the_noise():
    episode = physics_episode("push")
    simulator = baselines.simulator_for({"simulator": "mujoco"}, episode, TABLE)
    first, again, other = (
        baselines.predictability_floor(simulator, TABLE, episode, 3, 27, np.random.default_rng(seed))
        for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.shape[2] == 2
    for marker in range(2):
        assert 0 < first[:, 0, marker].mean() < 5  # 1 mm is about half a pixel


def test_resimulated_positions_follow_the_scene_and_leave_absent_markers_unknown():
    episode = physics_episode("slide", steps=5)
    simulator = baselines.simulator_for({"simulator": "mujoco"}, episode, TABLE)
    track = baselines.resimulate(simulator, episode.infos["state"][0], episode.actions)
    assert np.allclose(track[:, 0], episode.positions["cube"][1:], atol=1e-6)
    assert np.isnan(track[:, 1]).all()


def test_a_simulator_that_is_not_installed_is_said_and_done_without(monkeypatch):
    def missing(name, kind):
        raise ImportError("Isaac Lab cannot be imported here")

    monkeypatch.setattr(baselines, "new_simulator", missing)
    baselines._simulator.cache_clear()
    episode = Episode(np.zeros((2, 4, 4, 3), np.uint8), np.zeros((1, 2), np.float32), infos={"state": np.zeros((2, 3))})
    with pytest.warns(UserWarning, match="no predictability floor .* Isaac Lab cannot be imported"):
        assert baselines.simulator_for({"simulator": "isaac-lab"}, episode, TABLE) is None
    baselines._simulator.cache_clear()


def test_an_unknown_simulator_is_named():
    with pytest.raises(ValueError, match="unknown simulator 'mujocco'; did you mean 'mujoco'"):
        new_simulator("mujocco", "push")


@pytest.mark.parametrize(
    ("metadata", "changes", "scene"),
    [
        ({"simulator": "a robot arm"}, {}, TABLE),
        ({}, {}, TABLE),
        ({"simulator": "mujoco"}, {"infos": {}}, TABLE),
        ({"simulator": "mujoco"}, {}, dataclasses.replace(TABLE, camera=None)),
    ],
)
def test_there_is_no_simulator_without_its_name_a_state_and_a_camera(metadata, changes, scene):
    episode = dataclasses.replace(physics_episode("push", steps=2), **changes)
    assert baselines.simulator_for(metadata, episode, scene) is None
