"""Is the twin of a goal environment one? Its goals, the environment's own rewards of them, and hindsight."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import SAC, HerReplayBuffer

from cosmos_isaac_wm.envs import DreamEnv, DreamVectorEnv, RealTwinEnv
from cosmos_isaac_wm.policies.planners import MPPI, Planner
from cosmos_isaac_wm.policies.sb3 import make_dream_vec_env
from cosmos_isaac_wm.train import train_agent
from tests.dots import DotEnv, dot_twin


@pytest.fixture(scope="module")
def twin():
    """Of an environment that is installed under its name."""
    model = dot_twin(name="DotGoal-v0")
    model.perception.heads.outcome[-1].bias.data[1] = -9.0  # nothing ends
    return model


@pytest.fixture(scope="module")
def stranger():
    """Of one that would have to be named, as it was made with arguments of the user's."""
    return dot_twin(observes="goal")


def test_goals_are_recorded_ones_and_stay_for_an_episode(twin):
    recorded = twin.perception.heads.goals.numpy()
    env = DreamVectorEnv(8, twin, compile=False)
    first, _ = env.reset(seed=0)
    again, _ = DreamVectorEnv(8, twin, compile=False).reset(seed=0)
    assert (first["desired_goal"] == again["desired_goal"]).all()
    assert len(np.unique(first["desired_goal"][:, 0])) > 2
    assert all((np.abs(goal - recorded).max(axis=1) < 1e-6).any() for goal in first["desired_goal"])
    for _ in range(12):
        seen, *_ = env.step(env.action_space.sample())
        assert (seen["desired_goal"] == first["desired_goal"]).all()
    seen, *_ = env.step(env.action_space.sample())  # after the time limit all begin anew
    assert (seen["desired_goal"] != first["desired_goal"]).any()
    low, high = env.task.goal_area
    assert (low == recorded.min(axis=0)).all()
    assert (high == recorded.max(axis=0)).all()


def test_a_goal_can_be_asked_for(twin):
    env = DreamEnv(twin)
    seen, _ = env.reset(seed=0, options={"goal": [0.25, -0.5]})
    assert seen["desired_goal"].tolist() == [0.25, -0.5]
    assert env.get_state()["task.goals"].tolist() == [[0.25, -0.5]]
    with pytest.raises(ValueError, match=r'options\["goal"\] must be a goal of Box'):
        env.reset(options={"goal": [3.0, 0.0]})
    with pytest.raises(ValueError, match=r'options\["goal"\] must have shape \(2,\)'):
        env.reset(options={"goal": [0.0]})


def test_rewards_are_what_the_environment_computes(twin):
    env = DreamVectorEnv(4, twin, compile=False)
    env.reset(seed=0)
    seen, rewards, *_ = env.step(env.action_space.sample())
    assert np.allclose(rewards, DotEnv("goal").compute_reward(seen["achieved_goal"], seen["desired_goal"], {}))
    assert np.allclose(rewards, env.compute_reward(seen["achieved_goal"], seen["desired_goal"], {}))
    alone = gym.make("CosmosDream-v0", world_model=twin).unwrapped
    assert alone.compute_reward(np.zeros(2), np.array([0.5, -0.25]), {}) == -0.75
    tensors = DreamVectorEnv(4, twin, compile=False, to_torch=True)
    tensors.reset(seed=0)
    _, rewards, *_ = tensors.step(torch.zeros(4, 2))
    assert rewards.shape == (4,)


def test_hindsight_learns_in_it(twin):
    env = make_dream_vec_env(2, seed=0, world_model=twin)
    agent = SAC("MultiInputPolicy", env, replay_buffer_class=HerReplayBuffer, learning_starts=40, batch_size=16, seed=0)
    agent.learn(80)
    assert agent.num_timesteps == 80


def test_a_reward_of_ones_own_sees_the_goals(twin):
    env = DreamVectorEnv(3, twin, compile=False, reward_fn=lambda outcome: outcome.goals[:, 0])
    seen, _ = env.reset(seed=0)
    _, rewards, *_ = env.step(env.action_space.sample())
    assert np.allclose(rewards, seen["desired_goal"][:, 0])
    with pytest.raises(AttributeError, match="the twin of a goal environment that is installed"):
        env.compute_reward  # noqa: B018


def test_where_it_is_not_installed_rewards_are_foretold_and_that_is_said(stranger, capsys, tmp_path):
    env = DreamVectorEnv(3, stranger, compile=False)
    assert "rewards of Dot-v0 are foretold, not computed from goals" in capsys.readouterr().err
    seen, _ = env.reset(seed=0)
    heads, task = stranger.perception.heads, env.task
    before = task.remembered["read"].clone()
    actions = torch.zeros(3, 2)
    _, rewards, *_ = env.step(actions.numpy())
    memory, read = task.remembered["memory"], task.remembered["read"]
    scaled, goals = stranger.perception.scale_actions(actions), torch.from_numpy(seen["desired_goal"])
    assert np.allclose(rewards, heads.judge(before, read, memory, scaled, goals).rewards, atol=1e-4)
    assert not np.allclose(rewards, heads.judge(before, read, memory, scaled, -goals).rewards, atol=1e-4)
    with pytest.raises(AttributeError, match="the twin of a goal environment that is installed"):
        env.compute_reward  # noqa: B018
    stranger.save(tmp_path / "bundle")
    argv = [f"--world_model={tmp_path / 'bundle'}", f"--out={tmp_path / 'run'}", "--algorithm=sac_her"]
    assert train_agent.main(argv) == 1
    assert "hindsight needs rewards that follow from goals" in capsys.readouterr().err


def test_a_planner_goes_for_the_goal_of_the_episode(stranger):
    env = DreamEnv(stranger)
    planner = Planner(env, MPPI(population=8, iterations=1), horizon=3, replan=1, seed=0)
    plans = []
    for goal in ([0.9, 0.9], [-0.9, -0.9]):
        seen, _ = env.reset(seed=0, options={"goal": goal})
        planner = Planner(env, MPPI(population=8, iterations=1), horizon=3, replan=1, seed=0)
        plans.append(planner.predict(seen)[0])
    assert not np.allclose(*plans)


def test_the_real_one_has_its_own_goals(stranger):
    env = RealTwinEnv(stranger, named="tests.dots:Dot-v0")
    seen, _ = env.reset(seed=3)
    core = env.source.env.unwrapped
    own, _ = DotEnv("goal").reset(seed=3)
    assert np.allclose(seen["desired_goal"], own["desired_goal"])
    assert seen in core.observation_space
    seen, *_ = env.step(env.action_space.sample())
    assert np.allclose(seen["desired_goal"], own["desired_goal"])


def test_the_real_one_takes_the_environments_own_reset_options(stranger):
    env = RealTwinEnv(stranger, named="tests.dots:Dot-v0", obs_type="rgb")
    frames = [env.reset(seed=3, options={"place": [x, 0.0]})[0] for x in (-0.5, 0.5)]
    own = [frame.mean(axis=(0, 2)).argmax() for frame in (env.source.reset(3, {"place": [-0.5, 0]}).frame, env.frame)]
    assert own[0] < own[1]
    assert not np.array_equal(*frames)


def test_an_environment_that_cannot_be_made_any_more_is_one_that_is_not_installed(twin, monkeypatch, capsys):
    def broken(*args, **kwargs):
        raise gym.error.DependencyNotInstalled("no mujoco_py")

    monkeypatch.setattr(DotEnv, "__init__", broken)
    env = DreamEnv(twin)
    assert "are foretold, not computed from goals: no mujoco_py" in capsys.readouterr().err
    env.reset(seed=0)


def test_a_goal_that_the_environment_moves_is_seen_at_once(stranger):
    env = RealTwinEnv(stranger, named="tests.dots:Dot-v0")
    env.reset(seed=3)
    env.source.env.unwrapped._goal = np.array([0.5, 0.25], np.float32)
    seen, *_ = env.step(env.action_space.sample())
    assert seen["desired_goal"].tolist() == [0.5, 0.25]
