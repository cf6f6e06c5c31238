import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from stable_baselines3 import PPO, SAC, HerReplayBuffer
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

from cosmos_isaac_wm.envs import DreamEnv, DreamVectorEnv
from cosmos_isaac_wm.policies.sb3 import DreamVecEnv, make_dream_vec_env, make_vec_env

N = 3


def make(model, count=N, **kwargs):
    return DreamVecEnv(DreamVectorEnv(count, world_model=model, autoreset_mode=AutoresetMode.SAME_STEP, **kwargs))


def assert_same(ours, theirs):
    if isinstance(theirs, dict):
        assert set(ours) == set(theirs)
        for key, value in theirs.items():
            assert_same(ours[key], value)
    else:
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("obs_type", ["pose", "latent", "latent16", "rgb"])
def test_it_does_what_stable_baselines_own_vectoriser_does(model, obs_type):
    kwargs = {"obs_type": obs_type, "max_episode_steps": 4}
    ours = make(model, **kwargs)
    theirs = DummyVecEnv([lambda: DreamEnv(model, **kwargs) for _ in range(N)])
    ours.seed(5), theirs.seed(5)
    tolerance = {"rgb": 1, "latent16": 1e-2}.get(obs_type, 1e-5)
    rng, ends = np.random.default_rng(0), 0
    mine, other = ours.reset(), theirs.reset()
    for _ in range(10):
        if isinstance(other, dict):
            assert_same(mine, other)
        else:
            np.testing.assert_allclose(mine.astype(float), other.astype(float), atol=tolerance)
        for reset_info, other_info in zip(ours.reset_infos, theirs.reset_infos, strict=True):
            assert_same(reset_info, other_info)
        actions = rng.uniform(-1, 1, (N, 2)).astype(np.float32)
        mine, rewards, dones, infos = ours.step(actions)
        other, other_rewards, other_dones, other_infos = theirs.step(actions)
        np.testing.assert_allclose(rewards, other_rewards, atol=1e-5)
        assert rewards.dtype == other_rewards.dtype
        np.testing.assert_array_equal(dones, other_dones)
        for info, other_info in zip(infos, other_infos, strict=True):
            last, other_last = info.pop("terminal_observation", None), other_info.pop("terminal_observation", None)
            assert_same(info, other_info)
            assert (last is None) == (other_last is None)
            if isinstance(last, dict):
                assert_same(last, other_last)
            elif last is not None:
                np.testing.assert_allclose(last.astype(float), other_last.astype(float), atol=tolerance)
        ends += int(dones.sum())
    assert ends == 2 * N


def test_only_a_time_limit_counts_as_truncated(model):
    env = make(model, max_episode_steps=2)
    env.reset()
    first, last = (env.step(np.zeros((N, 2), np.float32))[3] for _ in range(2))
    assert [info["TimeLimit.truncated"] for info in first] == [False] * N
    assert [info["TimeLimit.truncated"] for info in last] == [True] * N


def test_a_success_ends_an_episode_without_being_truncated(model):
    env = make(model)
    env.reset()
    env.env.task.goals[1] = env.env.task._achieved()[1]
    _, _, dones, infos = env.step(np.zeros((N, 2), np.float32))
    assert dones.tolist() == [False, True, False]
    assert not infos[1]["TimeLimit.truncated"]
    assert infos[1]["is_success"]


def test_seeds_and_options_reach_the_next_reset_only(model):
    env = make(model)
    env.seed(3)
    env.set_options({"goal": np.array([0.1, 0.2])})
    first = env.reset()
    np.testing.assert_allclose(first["desired_goal"], [[0.1, 0.2]] * N)
    env.seed(3)
    np.testing.assert_array_equal(env.reset()["achieved_goal"], first["achieved_goal"])
    assert not np.allclose(env.reset()["desired_goal"], [0.1, 0.2])
    env.set_options([{"goal": np.array([0.1 * i, 0.0])} for i in range(N)])
    np.testing.assert_allclose(env.reset()["desired_goal"][:, 0], [0.0, 0.1, 0.2], atol=1e-6)
    env.set_options([{"goal": np.zeros(2)}, {}, {}])
    with pytest.raises(ValueError, match="the same options"):
        env.reset()


def test_attributes_are_those_of_the_environment_that_all_dreams_share(model):
    env = make(model)
    assert env.get_attr("action_space", indices=[0, 2]) == [env.action_space] * 2
    assert env.get_attr("world_model") == [model] * N
    assert env.has_attr("task")
    assert not env.has_attr("no_such_thing")
    env.set_attr("label", 7)
    assert env.get_attr("label", indices=1) == [7]
    with pytest.raises(ValueError, match="for all 3 at once"):
        env.set_attr("label", 8, indices=[1])
    assert env.get_attr("label") == [7] * N
    assert env.env_is_wrapped(Monitor) == [False] * N


def test_methods_are_called_for_each_dream_asked_for(model):
    env = make(model, render_mode="rgb_array")
    env.reset()
    rewards = env.env_method("compute_reward", np.zeros((5, 2)), np.full((5, 2), 0.1), None, indices=[0])
    assert len(rewards) == 1
    assert rewards[0].shape == (5,)
    for drawn, image in zip(
        env.env_method("render", indices=[2, 0]), [env.get_images()[i] for i in (2, 0)], strict=True
    ):
        np.testing.assert_array_equal(drawn, image)
    with pytest.raises(ValueError, match="all dreams at once"):
        env.env_method("step", np.zeros(2))
    with pytest.raises(AttributeError):
        env.env_method("no_such_method")


def test_without_a_render_mode_there_are_no_pictures(model):
    assert make(model).get_images() == [None] * N


def test_another_autoreset_mode_is_refused(model):
    with pytest.raises(ValueError, match="SameStep"):
        DreamVecEnv(DreamVectorEnv(N, world_model=model))


def test_stepping_without_actions_is_an_error(model):
    env = make(model)
    env.reset()
    with pytest.raises(RuntimeError, match="step_async"):
        env.step_wait()


def test_the_one_liner_seeds_and_monitors(model):
    first, second = (make_dream_vec_env(4, seed=1, world_model=model, max_episode_steps=3) for _ in range(2))
    assert isinstance(first, VecMonitor)
    assert_same(first.reset(), second.reset())
    for _ in range(3):
        _, _, dones, infos = first.step(np.zeros((4, 2), np.float32))
    assert dones.all()
    assert all(info["episode"]["l"] == 3 for info in infos)


def test_pictures_come_channels_first_and_stacked_and_latents_stacked(model):
    kwargs = {"world_model": model, "goal": (0.1, 0.1), "max_episode_steps": 3}
    channels, *grid = model.perception.latent_shape
    pictures = make_vec_env("CosmosDream-v0", 2, 0, frame_stack=2, obs_type="rgb", **kwargs)
    assert pictures.reset().shape == (2, 6, *model.scene.image_size)
    latents = make_vec_env("CosmosDream-v0", 2, 0, frame_stack=3, obs_type="latent", **kwargs)
    assert latents.reset().shape == (2, 3 * channels, *grid)
    first = latents.step(np.zeros((2, 2), np.float32))[0]
    second = latents.step(np.zeros((2, 2), np.float32))[0]
    np.testing.assert_array_equal(second[:, channels : 2 * channels], first[:, 2 * channels :])


def test_poses_are_not_stacked_and_unknown_environments_are_named(model):
    with pytest.raises(ValueError, match="poses hold velocities"):
        make_vec_env("CosmosDream-v0", 2, frame_stack=2, world_model=model)
    with pytest.raises(ValueError, match="unknown environment 'Pong'"):
        make_vec_env("Pong", 2, world_model=model)


@pytest.mark.opengl
def test_real_simulators_have_the_dreams_spaces(bundle):
    dreams = make_vec_env("CosmosDream-v0", 2, 0, world_model=str(bundle))
    for count in (1, 2):
        real = make_vec_env("CosmosReal-v0", count, 0, world_model=str(bundle))
        assert (real.observation_space, real.action_space) == (dreams.observation_space, dreams.action_space)
        assert real.reset()["observation"].shape == (count, 8)
        real.close()


@pytest.mark.parametrize(
    ("algorithm", "kwargs"),
    [
        (PPO, {"n_steps": 64, "batch_size": 128, "n_epochs": 2}),
        (SAC, {"learning_starts": 100, "train_freq": 16, "gradient_steps": 4, "buffer_size": 5000}),
        (
            SAC,
            {
                "learning_starts": 300,
                "train_freq": 16,
                "gradient_steps": 4,
                "buffer_size": 5000,
                "replay_buffer_class": HerReplayBuffer,
            },
        ),
    ],
    ids=["PPO", "SAC", "SAC+HER"],
)
def test_stable_baselines_learns_in_the_dream(model, algorithm, kwargs):
    env = make_dream_vec_env(16, seed=0, world_model=model, reward_type="sparse")
    agent = algorithm("MultiInputPolicy", env, seed=0, policy_kwargs={"net_arch": [32]}, **kwargs)
    before = {name: value.clone() for name, value in agent.policy.state_dict().items()}
    agent.learn(3000)
    assert agent.num_timesteps >= 3000
    assert len(agent.ep_info_buffer) > 0
    assert any(not value.equal(before[name]) for name, value in agent.policy.state_dict().items())
