import dataclasses
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

import cosmos_isaac_wm  # noqa: F401  (registers the environments)
from cosmos_isaac_wm.envs import DreamEnv, RealEnv
from cosmos_isaac_wm.envs.real_env import own_simulator
from cosmos_isaac_wm.perception import Perception
from cosmos_isaac_wm.sims.mujoco import MujocoTable, OpenGLError
from cosmos_isaac_wm.world_model import WorldModel

PUSH = np.array([0.6, -0.4], np.float32)


@pytest.mark.opengl
@pytest.mark.parametrize("obs_type", ["pose", "latent", "latent16", "rgb"])
def test_it_has_the_dreams_spaces_and_passes_gymnasiums_check(folder, model, obs_type):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gym.make("CosmosReal-v0", world_model=folder, obs_type=obs_type, render_mode="rgb_array")
        check_env(env.unwrapped)
    dream = DreamEnv(model, obs_type=obs_type)
    assert env.observation_space == dream.observation_space
    assert env.action_space == dream.action_space
    env.close()


@pytest.mark.opengl
def test_what_the_agent_sees_comes_from_pictures_and_the_truth_is_in_info_only(model):
    env = RealEnv(model)
    env.reset(seed=0)
    observation, _, _, _, info = env.step(PUSH)
    located = model.locate(env.context[-1:]).positions[0].numpy()
    assert np.allclose(observation["observation"][:4], located.reshape(-1), atol=1e-6)
    truth = env.simulator.positions()
    assert np.allclose(info["cube_position"], truth["cube"])
    assert not np.allclose(info["cube_position"], located[0], atol=1e-3)  # the toy readout is untrained
    env.close()


@pytest.mark.opengl
def test_an_episode_starts_with_the_latents_of_real_frames_at_rest(model):
    env = RealEnv(model)
    env.reset(seed=0)
    context = env.context.clone()
    assert context.shape == (4, *model.perception.latent_shape)
    env.step(PUSH)
    assert torch.equal(env.context[:3], context[1:])
    env.close()


@pytest.mark.opengl
def test_a_stored_context_starts_dream_and_reality_alike(model):
    simulator = MujocoTable("push", (32, 32))
    simulator.reset(5)
    simulator.step(PUSH)
    state = simulator.get_state()
    states = torch.full((len(model.contexts), len(state) + 4), torch.nan, dtype=torch.float64)
    states[1, : len(state)] = torch.from_numpy(state)
    stored = WorldModel(model.perception, model.dynamics, dataclasses.replace(model.contexts, states=states))
    options = {"episode": 1, "start": 0, "goal": (0.1, 0.1)}
    env = RealEnv(stored)
    real, info = env.reset(options=options)
    dreamed, _ = DreamEnv(stored).reset(options=options)
    assert all(np.array_equal(real[key], dreamed[key]) for key in real)
    assert np.allclose(info["cube_position"], simulator.positions()["cube"])
    simulator.step(PUSH)
    assert np.allclose(env.step(PUSH)[4]["pusher_position"], simulator.positions()["pusher"])
    with pytest.raises(ValueError, match="no simulator state for episode 2"):
        env.reset(options={"episode": 2})
    env.close()


@pytest.mark.opengl
def test_the_same_seed_and_actions_give_the_same_episode(model):
    def rollout():
        env = RealEnv(model, obs_type="rgb")
        frames = [env.reset(seed=4)[0]] + [env.step(PUSH)[0] for _ in range(3)]
        env.close()
        return np.stack(frames)

    assert np.array_equal(rollout(), rollout())


@pytest.mark.opengl
def test_a_bundle_of_slides_is_simulated_without_a_pusher(model):
    env = RealEnv(model, kind="slide")
    _, info = env.reset(seed=0)
    assert "cube_position" in info
    assert "pusher_position" not in info
    env.close()


@pytest.mark.opengl
@pytest.mark.parametrize("bad", [[np.nan, 0.0], [2.0, 0.0], [0.0]])
def test_a_wrong_action_is_an_error(model, bad):
    env = RealEnv(model)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="action"):
        env.step(np.array(bad, np.float32))
    env.close()


@pytest.mark.parametrize(
    ("told", "own"),
    [
        ("isaac-lab and mujoco", "isaac-lab"),
        ("mujoco", "mujoco"),
        ("a robot and isaac-lab", "isaac-lab"),
        (None, "mujoco"),
    ],
)
def test_the_first_simulator_of_a_bundle_is_its_own(make_world_model, told, own):
    model = make_world_model()
    model.provenance = {"simulator": told} if told else {}
    assert own_simulator(model) == own


def test_a_bundle_of_another_scene_needs_its_own_simulator(model):
    scene = dataclasses.replace(model.scene, control_hz=5.0)
    perception = Perception(scene, model.perception.tokenizer, model.perception.readout)
    with pytest.raises(ValueError, match=r"control_hz 5.0, but the simulator has 10.0: pass a `simulator`"):
        RealEnv(WorldModel(perception, model.dynamics, model.contexts))
    with pytest.raises(ValueError, match=r"image_size \(32, 32\), but the simulator has \(64, 64\)"):
        RealEnv(model, simulator=MujocoTable("push", (64, 64)))


def test_an_unknown_reset_option_is_named(model):
    with pytest.raises(ValueError, match=r"unknown reset options \['frames'\]"):
        RealEnv(model).reset(options={"frames": np.zeros((4, 32, 32, 3), np.uint8)})


def test_without_opengl_the_error_names_what_to_install(model, monkeypatch):
    def missing(*_):
        raise ImportError("libEGL.so.1")

    monkeypatch.setattr("mujoco.Renderer", missing)
    with pytest.raises(OpenGLError, match="apt-get install libosmesa6"):
        RealEnv(model).reset(seed=0)


def test_a_simulator_is_chosen_by_name_and_by_default_the_bundles_own(model, monkeypatch):
    made = []

    def remember(name, kind, size):
        made.append((name, kind, size))
        raise ImportError("not installed here")

    monkeypatch.setattr("cosmos_isaac_wm.envs.real_env.new_simulator", remember)
    model.provenance["simulator"] = "isaac-lab"
    with pytest.raises(ImportError, match="not installed here"):
        RealEnv(model, kind="slide")
    with (
        pytest.raises(ImportError, match="not installed here"),
        pytest.warns(UserWarning, match="pictures came from isaac-lab; those of mujoco"),
    ):
        RealEnv(model, kind="push", simulator="mujoco")
    assert made == [("isaac-lab", "slide", model.scene.image_size), ("mujoco", "push", model.scene.image_size)]
    monkeypatch.undo()
    model.provenance["simulator"] = "elsewhere"
    with (
        pytest.raises(ValueError, match="unknown simulator 'isaaclab'; did you mean 'isaac-lab'"),
        pytest.warns(UserWarning, match="pictures came from mujoco"),
    ):
        RealEnv(model, simulator="isaaclab")
