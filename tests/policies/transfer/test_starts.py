import numpy as np
import pytest

from cosmos_isaac_wm.envs import DreamEnv, RealEnv
from cosmos_isaac_wm.policies.transfer import APART, draw_starts


@pytest.mark.opengl
def test_both_worlds_begin_alike_and_nothing_begins_near_anything(model):
    env = RealEnv(model)
    drawn = draw_starts(env, 3, seed=1)
    for start in drawn:
        observation, info = env.reset(seed=start.seed, options={"goal": start.goal})
        assert np.linalg.norm(info["cube_position"] - start.goal) >= APART
        assert np.linalg.norm(info["cube_position"] - info["pusher_position"]) >= APART
        dreamed, _ = DreamEnv(model).reset(options={"latents": start.latents, "goal": start.goal})
        for key, value in observation.items():
            np.testing.assert_allclose(dreamed[key], value, atol=1e-5)
    env.close()
