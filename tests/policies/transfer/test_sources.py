import numpy as np
import pytest

from cosmos_isaac_wm.policies.agent import Agent
from cosmos_isaac_wm.policies.transfer import Start
from cosmos_isaac_wm.policies.transfer.sources import Worlds, identity, known_goal, new_policy


def test_an_agent_with_a_goal_of_its_own_gets_starts_that_are_away_from_it():
    latents = np.zeros((4, 16, 4, 4), np.float32)
    starts = [Start(0, latents, np.zeros(2), np.array([x, 0.1])) for x in (0.0, 0.12, 0.3)]
    agent = Agent(None, "ppo", "MlpPolicy", env_kwargs={"obs_type": "latent", "goal": [0.1, 0.1]})
    known = known_goal(agent, starts)
    assert [start.subject[0] for start in known] == [0.0, 0.3]
    assert all(start.goal.tolist() == [0.1, 0.1] for start in known)
    assert known_goal("random", starts) is starts
    with pytest.raises(ValueError, match="1 starts are too near"):
        known_goal(agent, starts[1:2])


def test_a_planner_is_known_by_its_parameters():
    assert identity("random") == "random"
    assert identity("cem").startswith("cem ")
    assert "horizon=12" in identity("cem")
    assert identity("cem") != identity("icem")


def always_right(env):
    """A policy of somebody's own, which counts for itself."""
    calls = iter(range(1000))
    return lambda observation: np.array([1.0, next(calls) / 1000], np.float32)


def test_anybodys_policy_acts_in_every_environment_of_a_batch(model):
    worlds = Worlds(model, "mujoco")
    name = "tests.policies.transfer.test_sources:always_right"
    assert worlds.find(name) == name
    env = worlds.new_env(name, "dream", 3)
    policy = new_policy(name, env, 0)
    observation = env.reset()
    np.testing.assert_allclose(policy.predict(observation)[0], [[1.0, 0.0]] * 3)
    np.testing.assert_allclose(policy.predict(observation)[0], [[1.0, 0.001]] * 3)
    env.step(policy.predict(observation)[0])
    with pytest.raises(ValueError, match="has no attribute 'nobody'"):
        worlds.find("tests.policies.transfer.test_sources:nobody")
