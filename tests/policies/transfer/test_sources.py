import numpy as np
import pytest

from cosmos_isaac_wm.policies.agent import Agent
from cosmos_isaac_wm.policies.transfer import Start
from cosmos_isaac_wm.policies.transfer.sources import identity, known_goal


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
