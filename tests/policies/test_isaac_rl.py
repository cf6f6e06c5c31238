"""The dream as an Isaac Lab environment. Runs inside one (docs/isaac.md): `pytest -m isaac`."""

import pytest
import torch

isaac_rl = pytest.importorskip(
    "cosmos_isaac_wm.policies.isaac_rl",
    reason="needs an Isaac Lab environment, see docs/isaac.md",
    exc_type=ImportError,
)

pytestmark = pytest.mark.isaac


@pytest.fixture
def dream(model):
    return isaac_rl.DreamRLEnv(num_envs=4, world_model=model, reward_type="progress", max_episode_steps=5)


def test_it_hands_out_tensors_under_policy(dream):
    observation, _ = dream.reset(seed=0)
    assert dream.observation_space.contains(observation["policy"].numpy())
    for step in range(5):
        observation, reward, terminated, truncated, _ = dream.step(torch.full((4, 2), 3.0))  # clipped
        assert reward.shape == terminated.shape == (4,)
        assert (terminated | truncated).all() or step < 4
    assert (dream.episode_length_buf <= 1).all()


def test_what_an_episode_ended_with_is_not_what_the_next_begins_with(dream):
    dream.reset(seed=0)
    for _ in range(5):
        observation, *_, extras = dream.step(torch.ones(4, 2))
    assert extras["final_obs"]["policy"].shape == observation["policy"].shape
    assert not torch.equal(extras["final_obs"]["policy"], observation["policy"])
    assert "/success" in extras["log"]


def test_a_seed_is_of_the_next_reset(dream):
    assert dream.seed(3) == 3
    first = dream.reset()[0]["policy"].clone()
    assert dream.seed(None) == -1
    assert torch.equal(dream.reset(seed=3)[0]["policy"], first)


@pytest.mark.parametrize(("obs_type", "dtype"), [("latent", torch.float32), ("rgb", torch.uint8)])
def test_latents_and_pictures_are_handed_out_as_they_are(model, obs_type, dtype):
    env = isaac_rl.DreamRLEnv(num_envs=2, world_model=model, obs_type=obs_type, goal=(0.1, 0.1))
    observation = env.reset(seed=0)[0]["policy"]
    assert observation.dtype == dtype
    assert env.observation_space.contains(observation.numpy())


def test_stable_baselines3_trains_in_the_dream_through_isaac_labs_wrapper(dream):
    from isaaclab_rl.sb3 import Sb3VecEnvWrapper
    from stable_baselines3 import PPO

    agent = PPO("MlpPolicy", Sb3VecEnvWrapper(dream), n_steps=6, batch_size=24, n_epochs=1)
    agent.learn(24)
    assert agent.num_timesteps == 24


def test_rsl_rl_trains_in_the_dream(dream, tmp_path):
    from isaaclab_rl.rsl_rl import RslRlVecEnvWrapper

    runners = pytest.importorskip("rsl_rl.runners")
    env = RslRlVecEnvWrapper(dream, clip_actions=1.0)
    network = {"class_name": "MLPModel", "hidden_dims": [16], "activation": "elu"}
    distribution = {"class_name": "GaussianDistribution", "init_std": 1.0}
    settings = {
        "num_steps_per_env": 4,
        "save_interval": 10,
        "obs_groups": {"actor": ["policy"], "critic": ["policy"]},
        "actor": {**network, "distribution_cfg": distribution},
        "critic": network,
        "algorithm": {"class_name": "PPO", "num_learning_epochs": 1, "num_mini_batches": 1},
    }
    runner = runners.OnPolicyRunner(env, settings, log_dir=None, device=str(dream.device))
    before = [parameter.clone() for parameter in runner.alg.actor.parameters()]
    runner.learn(num_learning_iterations=2)
    assert any(not torch.equal(a, b) for a, b in zip(before, runner.alg.actor.parameters(), strict=True))
