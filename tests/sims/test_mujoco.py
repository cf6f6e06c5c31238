import mujoco
import numpy as np
import pytest

from cosmos_isaac_wm.perception.tracking import detect
from cosmos_isaac_wm.protocols import Simulator
from cosmos_isaac_wm.sims.dimensions import CUBE_SIZE, PUSHER_RADIUS, TABLE_HALF_WIDTH
from cosmos_isaac_wm.sims.mujoco import MujocoTable, OpenGLError

ACTIONS = np.random.default_rng(0).uniform(-1, 1, (15, 2)).astype(np.float32)


def pushing() -> MujocoTable:
    """A simulator in the middle of a push."""
    simulator = MujocoTable("push")
    simulator.reset(0, {"cube": (0.1, 0.0), "pusher": (-0.02, 0.01)})
    for _ in range(4):
        simulator.step(np.array([1.0, 0.1], np.float32))
    assert simulator.in_contact()
    return simulator


def follow(simulator: MujocoTable, draw: bool = False) -> list[np.ndarray]:
    poses = []
    for action in ACTIONS:
        simulator.step(action)
        poses.append(simulator.render() if draw else np.concatenate([simulator.cube_pose(), simulator.get_state()]))
    return poses


def mirror(simulator: MujocoTable) -> None:
    """Reflect the cube's and the pusher's pose about x = 0."""
    simulator.data.qpos[[0, 7]] *= -1
    simulator.data.qpos[5:7] *= -1
    mujoco.mj_forward(simulator.model, simulator.data)


def test_it_is_a_simulator():
    assert isinstance(MujocoTable(), Simulator)


def test_the_same_seed_gives_the_same_start():
    first, second, other = MujocoTable(), MujocoTable(), MujocoTable()
    first.reset(5)
    second.reset(5)
    other.reset(6)
    assert np.array_equal(first.get_state(), second.get_state())
    assert not np.array_equal(first.get_state(), other.get_state())


@pytest.mark.parametrize("fresh", [False, True])
def test_a_restored_state_leads_to_bit_identical_poses(fresh):
    simulator = pushing()
    state = simulator.get_state()
    first = follow(simulator)
    again = MujocoTable("push") if fresh else simulator
    again.set_state(state)
    assert all(np.array_equal(a, b) for a, b in zip(first, follow(again), strict=True))


@pytest.mark.opengl
def test_a_restored_state_leads_to_bit_identical_frames():
    simulator = pushing()
    state = simulator.get_state()
    first = [simulator.render(), *follow(simulator, draw=True)]
    fresh = MujocoTable("push")
    fresh.set_state(state)
    again = [fresh.render(), *follow(fresh, draw=True)]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.opengl
def test_drawing_changes_nothing():
    drawn, blind = pushing(), pushing()
    follow(drawn, draw=True)
    follow(blind)
    assert np.array_equal(drawn.get_state(), blind.get_state())


def test_a_state_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="another kind"):
        MujocoTable("push").set_state(MujocoTable("slide").get_state())


@pytest.mark.parametrize("action", [[np.nan, 0.0], [np.inf, 0.0], [0.0, 0.0, 0.0]])
def test_an_action_that_is_not_two_finite_numbers_is_refused(action):
    with pytest.raises(ValueError, match=r"finite action of shape \(2,\)"):
        MujocoTable().step(np.array(action))


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match=r"'throw'.*push.*slide"):
        MujocoTable("throw")


def test_a_control_step_is_a_tenth_of_a_second_in_at_least_20_substeps():
    simulator = MujocoTable()
    simulator.reset(0)
    simulator.step(np.zeros(2, np.float32))
    assert simulator.data.time == pytest.approx(0.1)
    assert round(0.1 / simulator.model.opt.timestep) >= 20


@pytest.mark.parametrize("seed", range(4))
def test_a_slide_is_launched_at_04_to_10_metres_per_second_and_rests_inside_the_walls(seed):
    simulator = MujocoTable("slide")
    simulator.reset(seed)
    assert 0.4 <= np.linalg.norm(simulator.data.qvel[:2]) <= 1.0
    track = []
    for _ in range(100):
        simulator.step(np.zeros(2, np.float32))
        track.append(simulator.positions()["cube"])
    assert np.abs(track).max() < TABLE_HALF_WIDTH - CUBE_SIZE / 2 + 0.01
    assert np.linalg.norm(track[-1] - track[-2]) < 1e-4
    assert "pusher" not in simulator.positions()


def test_the_pushers_top_speed_is_30_centimetres_per_second_whatever_the_action():
    simulator = MujocoTable()
    simulator.reset(0, {"cube": (0.0, 0.3), "pusher": (-0.3, -0.3)})
    for action in ([1.0, 0.0], [5.0, 0.0]):
        simulator.step(np.array(action))
        start = simulator.positions()["pusher"]
        for _ in range(5):
            simulator.step(np.array(action))
        assert np.linalg.norm(simulator.positions()["pusher"] - start) / 0.5 == pytest.approx(0.30, abs=0.02)


def test_the_pusher_stays_between_the_walls():
    simulator = MujocoTable()
    simulator.reset(0, {"cube": (0.0, 0.3), "pusher": (0.0, -0.3)})
    for _ in range(20):
        simulator.step(np.array([1.0, -1.0]))
    assert np.abs(simulator.positions()["pusher"]).max() <= TABLE_HALF_WIDTH - PUSHER_RADIUS + 0.005


def test_mirrored_actions_give_mirrored_positions():
    simulator, mirrored = (MujocoTable() for _ in range(2))
    simulator.reset(0, {"cube": (0.1, 0.0), "pusher": (-0.02, 0.01)})
    mirrored.set_state(simulator.get_state())
    mirror(mirrored)
    signs = np.array(simulator.scene.mirror_actions)
    start = simulator.positions()["cube"]
    for _ in range(8):
        simulator.step(np.array([0.8, 0.1]))
        mirrored.step(np.array([0.8, 0.1]) * signs)
        for name, position in simulator.positions().items():
            np.testing.assert_allclose(mirrored.positions()[name], position * [-1, 1], atol=1e-4)
    assert np.linalg.norm(simulator.positions()["cube"] - start) > 0.05


@pytest.mark.opengl
def test_a_mirrored_state_gives_a_mirrored_picture():
    simulator = MujocoTable()
    simulator.reset(3)
    picture = simulator.render().astype(int)
    mirror(simulator)
    mirrored = simulator.render()[:, ::-1].astype(int)
    difference = np.abs(picture - mirrored)
    assert difference.mean() < 1.0  # what remains is antialiasing along edges
    assert np.median(difference) == 0
    assert np.abs(picture - mirrored[:, ::-1]).mean() > 3.0


@pytest.mark.opengl
@pytest.mark.parametrize("cube", [(0, 0), (-0.3, 0.3), (0.3, 0.3), (-0.3, -0.3), (0.3, -0.3), (0, 0.35), (0.1, -0.2)])
def test_the_projection_meets_the_rendered_cube_within_a_pixel(cube):
    simulator = MujocoTable("push", (128, 128))
    simulator.reset(0, {"cube": cube, "pusher": (-0.35 if cube[0] > 0 else 0.35, -0.35)})
    (found,) = detect(simulator.render()[None], simulator.scene.markers[0])
    assert np.linalg.norm(found - simulator.scene.to_pixels(cube)) < 1.0


@pytest.mark.opengl
def test_pictures_have_the_size_asked_for():
    assert MujocoTable("slide", (64, 96)).render().shape == (64, 96, 3)


def test_noise_of_perception_moves_both_objects_a_little_and_keeps_the_cube_upright():
    simulator = pushing()
    before, height = simulator.positions(), simulator.cube_pose()[2]
    simulator.perturb(np.random.default_rng(0), 0.001, np.deg2rad(1))
    for name, position in simulator.positions().items():
        assert 0 < np.linalg.norm(position - before[name]) < 0.005
    assert simulator.cube_pose()[2] == height
    assert np.linalg.norm(simulator.cube_pose()[3:]) == pytest.approx(1.0)


def test_without_opengl_the_error_names_the_package_and_physics_still_works(monkeypatch):
    def no_library(*arguments):
        raise ImportError("libEGL.so.1: cannot open shared object file")

    monkeypatch.setattr(mujoco, "Renderer", no_library)
    simulator = MujocoTable()
    simulator.reset(0)
    simulator.step(np.zeros(2, np.float32))
    with pytest.raises(OpenGLError, match="libosmesa6"):
        simulator.render()
