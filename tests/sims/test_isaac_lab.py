"""The table in Isaac Lab. Runs inside an Isaac Lab environment (docs/isaac.md): `pytest -m isaac`."""

import json

import numpy as np
import pytest
import torch

isaac_lab = pytest.importorskip(
    "cosmos_isaac_wm.sims.isaac_lab", reason="needs an Isaac Lab environment, see docs/isaac.md", exc_type=ImportError
)

from cosmos_isaac_wm.data import EpisodeDataset  # noqa: E402
from cosmos_isaac_wm.evaluation.baselines import opposed, predictability_floor, simulator_for  # noqa: E402
from cosmos_isaac_wm.evaluation.ground_truth import detect_all  # noqa: E402
from cosmos_isaac_wm.protocols import Simulator  # noqa: E402
from cosmos_isaac_wm.sims.dimensions import CUBE_SIZE  # noqa: E402
from cosmos_isaac_wm.sims.mujoco import MujocoTable  # noqa: E402
from cosmos_isaac_wm.train import collect  # noqa: E402

pytestmark = pytest.mark.isaac


@pytest.fixture(scope="module")
def table():
    table = isaac_lab.IsaacLabTable("push")
    yield table
    table.close()


@pytest.fixture(scope="module")
def sliding():
    table = isaac_lab.IsaacLabTable("slide")
    yield table
    table.close()


def test_it_is_a_simulator(table):
    assert isinstance(table, Simulator)
    assert table.metadata()["simulator"] == "isaac-lab"


@pytest.mark.parametrize("kind", ["push", "slide"])
def test_a_seed_gives_the_same_start_as_in_mujoco(kind):
    other = MujocoTable(kind)
    other.reset(5)
    start = isaac_lab.start_state(kind, 5)
    assert np.allclose(start[:7], other.cube_pose())
    assert np.allclose(start[7:10], other.data.qvel[:3])
    assert np.allclose(start[12], other.data.qvel[5])
    if kind == "push":
        assert np.allclose(start[13:15], other.positions()["pusher"])


def test_the_pusher_goes_as_fast_as_it_is_told_and_takes_the_cube_along(table):
    table.reset(0, {"cube": (0.1, 0.0), "pusher": (-0.1, 0.0)})
    table.step(np.float32([1.0, 0.0]))
    before = table.positions()
    table.step(np.float32([1.0, 0.0]))
    after = table.positions()
    assert np.allclose(after["pusher"] - before["pusher"], [0.03, 0.0], atol=1e-3)
    assert np.allclose(after["cube"], [0.1, 0.0], atol=1e-3)
    for _ in range(6):
        table.step(np.float32([1.0, 0.0]))
    assert table.positions()["cube"][0] > 0.15
    assert table.get_state()[2] == pytest.approx(CUBE_SIZE / 2, abs=1e-3)


def test_a_restored_state_leads_to_bit_identical_poses_and_pictures(table):
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (12, 2)).astype(np.float32)
    table.reset(0, {"cube": (0.1, 0.0), "pusher": (0.02, 0.01)})
    for action in actions[:4]:
        table.step(action)
    state = table.get_state()

    def follow():
        seen = []
        for action in actions[4:]:
            table.step(action)
            seen.append((table.get_state(), table.render()))
        return seen

    first = follow()
    table.reset(3)
    table.set_state(state)
    assert all(np.array_equal(a, b) and np.array_equal(c, d) for (a, c), (b, d) in zip(first, follow(), strict=True))


def test_a_slippery_cube_comes_to_rest_and_stays_on_the_table(sliding):
    sliding.reset(11)
    for _ in range(60):
        sliding.step(np.zeros(2, np.float32))
    before = sliding.get_state()[:7]
    sliding.step(np.zeros(2, np.float32))
    assert np.allclose(sliding.get_state()[:7], before, atol=1e-4)
    assert before[2] == pytest.approx(CUBE_SIZE / 2, abs=1e-3)


def test_pictures_show_the_state_they_belong_to():
    """A quarter of a pixel at 512, at no shift: a frame that lagged a step behind would be off by more than that.

    Drawn at 512, where the detector, which counts whole pixels, does not blur the answer.
    """
    large = isaac_lab.IsaacLabTable("slide", (512, 512))
    large.reset(12)
    frames, places = [], []
    for _ in range(12):
        frames.append(large.render())
        places.append(large.positions()["cube"])
        large.step(np.zeros(2, np.float32))
    large.close()
    seen = detect_all(np.stack(frames), large.scene)[:, 0]
    off = seen - large.scene.to_pixels(np.stack(places))
    assert np.sqrt(np.square(off - off.mean(axis=0)).sum(axis=1).mean()) < 0.25
    assert np.abs(off.mean(axis=0)).max() < 1.0


def test_one_simulation_gives_way_to_another_and_comes_back_as_it_was(table, sliding):
    table.reset(1)
    state = table.get_state()
    sliding.reset(2)
    assert np.array_equal(table.get_state(), state)


def test_noise_moves_cube_and_pusher_by_about_a_millimetre(table):
    table.reset(1)
    before = table.get_state()
    table.perturb(np.random.default_rng(0), 1e-3, np.deg2rad(1))
    moved = table.get_state() - before
    assert 0 < np.abs(moved[:2]).max() < 5e-3
    assert 0 < np.abs(moved[13:15]).max() < 5e-3
    assert moved[2] == 0
    assert np.linalg.norm(table.get_state()[3:7]) == pytest.approx(1, abs=1e-6)


def test_bad_actions_and_states_are_named(table):
    with pytest.raises(ValueError, match="finite action of shape"):
        table.step(np.float32([np.nan, 0]))
    with pytest.raises(ValueError, match="was it saved from another kind or simulator"):
        table.set_state(np.zeros(13))
    with pytest.raises(ValueError, match="unknown kind"):
        isaac_lab.IsaacLabTables("pull")


def test_many_tables_collect_what_one_does(tmp_path):
    argv = ["--sim", "isaac-lab", "--episodes", "3", "--kind", "both", "--steps", "6", "--size", "64", "--seed", "5"]
    assert collect.main([*argv, "--tables", "2", "--out", str(tmp_path / "two")]) == 0
    assert collect.main([*argv, "--tables", "1", "--out", str(tmp_path / "one")]) == 0
    two, one = EpisodeDataset(tmp_path / "two"), EpisodeDataset(tmp_path / "one")
    assert two.metadata["simulator"] == "isaac-lab"
    assert sorted(two.kinds) == ["push", "push", "slide"]
    for index in range(3):
        assert np.array_equal(two[index].actions, one[index].actions)
        assert np.allclose(two[index].positions["cube"], one[index].positions["cube"], atol=1e-6)
        assert two[index].frames.shape == (7, 64, 64, 3)


def test_isaac_lab_finds_the_task_and_steps_it():
    import gymnasium as gym
    from isaaclab.app import launch_simulation
    from isaaclab_tasks.utils import load_cfg_from_registry

    if isaac_lab.IsaacLabTables._open is not None:
        isaac_lab.IsaacLabTables._open.close()
    cfg = load_cfg_from_registry("Isaac-CosmosCubePush-Direct-v0", "env_cfg_entry_point")
    cfg.scene.num_envs, cfg.seed, cfg.episode_length_s = 2, 0, 0.3
    with launch_simulation(cfg, {"device": cfg.sim.device, "visualizer": []}):
        env = gym.make("Isaac-CosmosCubePush-Direct-v0", cfg=cfg)
        observation, _ = env.reset()
        assert observation["policy"].shape == (2, 128, 128, 3)
        assert observation["policy"].dtype == torch.uint8
        for step in range(4):
            observation, reward, terminated, truncated, _ = env.step(torch.ones(2, 2))
            assert ((reward < 0) & (reward > -1)).all()
            assert not terminated.any()
            assert truncated.all() == (step == 2)
        kept, states = observation["policy"].clone(), env.unwrapped.states()
        assert np.allclose(states[:, 13:15], states[:, 13:15].clamp(-0.4, 0.4))
        env.step(torch.zeros(2, 2))
        assert torch.equal(observation["policy"], kept)  # not the memory that the next picture is drawn into
        starts = [env.unwrapped.reset(seed=3) and env.unwrapped.states() for _ in range(2)]
        assert torch.equal(*starts)
        env.close()


def test_what_makes_the_scene_is_not_changed_afterwards():
    from cosmos_isaac_wm.sims.isaac_task import TableEnv, TableEnvCfg

    cfg = TableEnvCfg()
    cfg.kind = "slide"
    with pytest.raises(ValueError, match="say them when the configuration is made"):
        TableEnv(cfg)
    with pytest.raises(ValueError, match="unknown stack 'bullet'"):
        TableEnvCfg(stack="bullet")


def test_the_real_environment_and_the_floor_run_in_it(tmp_path):
    from cosmos_isaac_wm.envs import RealEnv

    with pytest.warns(UserWarning, match="strange to its eyes"):
        env = RealEnv("default", simulator="isaac-lab", max_episode_steps=3)
    observation, _ = env.reset(seed=0)
    for _ in range(3):
        observation, _, _, truncated, info = env.step(np.float32([0.5, 0.0]))
    assert env.observation_space.contains(observation)
    assert truncated
    assert np.isfinite(info["pusher_position"]).all()
    argv = ["--sim", "isaac-lab", "--episodes", "1", "--kind", "push", "--steps", "8", "--tables", "1", "--size", "64"]
    assert collect.main([*argv, "--out", str(tmp_path / "out")]) == 0
    dataset = EpisodeDataset(tmp_path / "out")
    simulator = simulator_for(dataset.metadata, dataset[0], dataset.scene)
    floor = predictability_floor(simulator, dataset.scene, dataset[0], 3, 5, np.random.default_rng(0))
    assert floor.shape == (4, 5, 2)
    assert 0 < np.nanmedian(floor) < 20


def test_test_episodes_tell_of_restarts(tmp_path):
    argv = [
        "--sim",
        "isaac-lab",
        "--episodes",
        "10",
        "--kind",
        "push",
        "--steps",
        "24",
        "--tables",
        "5",
        "--size",
        "64",
    ]
    assert collect.main([*argv, "--size", "64", "--workers", "1", "--out", str(tmp_path / "out")]) == 0
    dataset = EpisodeDataset(tmp_path / "out")
    (test,) = dataset.indices("test")
    told = [index for index in range(10) if "cube_restarted" in dataset[index].infos]
    assert told == [test]
    episode, asked = dataset[test], simulator_for(dataset.metadata, dataset[test], dataset.scene)
    floors = [
        predictability_floor(simulator, dataset.scene, episode, 3, 20, np.random.default_rng(0))
        for simulator in (None, asked)
    ]
    assert floors[0].shape == (4, 20, 2)
    assert not np.array_equal(*floors)
    assert 0.2 < np.nanmean(floors[0][:, :8]) / np.nanmean(floors[1][:, :8]) < 5
    assert np.allclose(*(opposed(simulator, dataset.scene, episode, 3, 16) for simulator in (None, asked)), atol=1e-4)


def test_what_was_collected_is_described(tmp_path):
    argv = ["--sim", "isaac-lab", "--episodes", "2", "--kind", "push", "--steps", "5", "--tables", "2", "--size", "64"]
    assert collect.main([*argv, "--out", str(tmp_path / "out"), "--json", str(tmp_path / "out.json")]) == 0
    assert json.loads((tmp_path / "out.json").read_text())["push_episodes"] == 2
    metadata = EpisodeDataset(tmp_path / "out").metadata
    assert metadata["physics"].startswith("newton ")
    assert metadata["renderer"].startswith("newton-warp/")
