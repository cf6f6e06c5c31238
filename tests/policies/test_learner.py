import numpy as np
import pytest
from gymnasium import spaces

from cosmos_isaac_wm.policies.learner import new_learner, policy_of
from cosmos_isaac_wm.policies.sb3 import make_vec_env


@pytest.mark.parametrize(
    ("obs_type", "space", "policy", "kwargs"),
    [
        ("pose", None, "MultiInputPolicy", {"extractor": "pose", "net_arch": [4]}),
        ("latent", None, "MlpPolicy", {"extractor": "latent", "net_arch": [4]}),
        ("latent16", None, "MlpPolicy", {"extractor": "latent", "net_arch": [4]}),
        ("rgb", None, "CnnPolicy", {"net_arch": [4]}),
        ("env", spaces.Box(-1, 1, (3,)), "MlpPolicy", {"net_arch": [4]}),
        ("env", spaces.Dict({"a": spaces.Box(-1, 1, (3,))}), "MultiInputPolicy", {"net_arch": [4]}),
        ("env", spaces.Box(0, 255, (64, 64, 3), np.uint8), "CnnPolicy", {"net_arch": [4]}),
    ],
)
def test_every_kind_of_observation_has_its_policy(obs_type, space, policy, kwargs):
    assert policy_of(obs_type, {"net_arch": [4]}, space) == (policy, kwargs)


def test_a_learner_takes_what_its_algorithm_knows_and_nothing_else(model):
    env = make_vec_env("CosmosDream-v0", 2, 0, world_model=model)
    learner = new_learner("ppo", env, "pose", {"net_arch": [4]}, {"n_steps": 8, "batch_size": 8}, "cpu", 0)
    assert learner.n_steps == 8
    with pytest.raises(ValueError, match="ppo refuses these hyperparameters"):
        new_learner("ppo", env, "pose", {}, {"n_stepz": 8}, "cpu", 0)
