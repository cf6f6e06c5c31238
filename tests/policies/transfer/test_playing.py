import numpy as np
import pytest

from cosmos_isaac_wm.envs import DreamEnv, RealEnv
from cosmos_isaac_wm.policies.sb3 import make_vec_env
from cosmos_isaac_wm.policies.scripted import GoalPusher
from cosmos_isaac_wm.policies.transfer import Played, Start, draw_starts, play


def starts(model, count=5):
    rng = np.random.default_rng(0)
    rows = rng.integers(len(model.contexts), size=count)
    latents = model.contexts.latents.float().numpy()
    return [Start(int(row), latents[row], rng.uniform(-0.1, 0.1, 2), np.zeros(2)) for row in rows]


@pytest.mark.parametrize("together", [2, 5])
def test_every_start_is_played_once_however_many_dream_together(model, together):
    env = make_vec_env("CosmosDream-v0", together, world_model=model, reward_type="progress", max_episode_steps=6)
    played = play(GoalPusher(), env, starts(model), True, "scripted")
    alone = DreamEnv(model, reward_type="progress", max_episode_steps=6)
    for index, start in enumerate(starts(model)):
        observation, _ = alone.reset(options={"latents": start.latents, "goal": start.goal})
        rewards, over = [], False
        while not over:
            action = GoalPusher().predict(observation)[0]
            observation, reward, terminated, truncated, info = alone.step(action)
            rewards.append(reward)
            over = terminated or truncated
        assert played.length[index] == len(rewards)
        assert played.success[index] == bool(info["is_success"])
        assert played.episode_return[index] == pytest.approx(sum(rewards), abs=1e-3)
        expected = np.linalg.norm(info.get("cube_position", np.full(2, np.nan)) - start.goal)
        assert played.distance[index] == pytest.approx(expected, abs=1e-4, nan_ok=True)


def test_rates_come_with_wilsons_interval():
    played = Played(success=[True] * 90 + [False] * 10)
    assert played.rate == 0.9
    assert played.rate_interval() == pytest.approx((0.8256, 0.9448), abs=1e-4)  # as tables of it have it


@pytest.mark.opengl
def test_the_scripted_pusher_brings_the_cube_to_its_goal():
    env = make_vec_env("CosmosReal-v0", 1, world_model="default", reward_type="progress")
    single = RealEnv("default")
    played = play(GoalPusher(), env, draw_starts(single, 4, seed=0), False, "scripted")
    assert played.rate == 1.0
    assert max(played.distance) < 0.05
    env.close(), single.close()
    with pytest.raises(ValueError, match="one by one"):
        play(GoalPusher(), make_vec_env("CosmosDream-v0", 2), [], False, "scripted")
