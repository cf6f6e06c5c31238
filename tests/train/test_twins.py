"""Does any environment become a twin by the commands? Recorded, seen, dreamed, learned in, and compared with itself."""

import csv
import json

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.wrappers import AddRenderObservation
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage

from cosmos_isaac_wm.data import EpisodeDataset, assign_splits
from cosmos_isaac_wm.envs import DreamEnv
from cosmos_isaac_wm.policies.agent import Agent
from cosmos_isaac_wm.train import (
    collect,
    demo,
    evaluate,
    export_lerobot,
    fit_dynamics,
    fit_tokenizer,
    import_lerobot,
    improve,
    record,
    train_agent,
    transfer,
)
from cosmos_isaac_wm.world_model import WorldModel
from tests.dots import DotEnv

DOT = "tests.dots:Dot-v0"
PPO = '{"n_steps": 16, "batch_size": 64, "n_epochs": 1}'


@pytest.fixture(scope="module")
def commands(tmp_path_factory, tiny_perception, tiny_fit):
    """Folder of data, perception and bundle of the dot, from the command line."""
    folder = tmp_path_factory.mktemp("twin")
    data, eyes = f"--data={folder / 'data'}", folder / "eyes"
    recorded = [f"--out={folder / 'data'}", f"--env={DOT}", "--episodes=20", "--workers=1", "--policy=random"]
    assert collect.main(recorded) == 0
    tiny = [option for option in tiny_perception if not option.startswith("--readout")]
    figures = f"--json={folder / 'eyes.json'}"
    assert fit_tokenizer.main([data, f"--out={eyes}", "--heads.updates=200", figures, *tiny]) == 0
    shape = ["--dynamics.width=16", "--dynamics.blocks=1", "--ship_episodes=2"]
    bundle = f"--out={folder / 'bundle'}"
    assert fit_dynamics.main([data, f"--perception={eyes}", bundle, *shape, *tiny_fit]) == 0
    return folder


def test_the_eyes_say_how_well_they_read(commands):
    figures = json.loads((commands / "eyes.json").read_text())
    assert {"state_r2_mean", "state_r2_min", "reward_r2", "round_trip_db"} <= figures.keys()
    assert figures["state_r2_mean"] > 0.5


def test_the_bundle_says_how_faithful_it_is(commands, tmp_path, capsys):
    model = WorldModel.load(commands / "bundle", "cpu")
    assert model.verdict.unit == "std"
    expected = {"state_r2_mean", "state_r2_min", "reward_r2_at_25", "termination_f1", "state_r2_mean_at_25"}
    assert expected <= model.metrics.keys()
    assert model.contexts.kinds.count("start") == 6
    assert evaluate.main([f"--world-model={commands / 'bundle'}", f"--json={tmp_path / 'e.json'}"]) == 0
    assert expected <= json.loads((tmp_path / "e.json").read_text()).keys()
    assert "state_r2_mean" in capsys.readouterr().out


def test_a_dream_begins_where_the_environment_does(commands):
    model, data = WorldModel.load(commands / "bundle", "cpu"), EpisodeDataset(commands / "data")
    contexts = model.contexts
    for row in (row for row, kind in enumerate(contexts.kinds) if kind == "start"):
        first = model.encode(data[int(contexts.episodes[row])].frames[:1])[0]
        assert torch.allclose(contexts.latents[row].float(), first.expand(4, -1, -1, -1), atol=1e-2)
        assert contexts.starts[row] == -3


def test_its_dream_is_the_environment_to_an_agent(commands):
    env = DreamEnv(commands / "bundle")
    assert env.observation_space == DotEnv().observation_space
    assert env.action_space == DotEnv().action_space
    assert env.spec is None
    assert env.task.max_episode_steps == 12


def test_a_recorded_episode_is_replayed_and_logged_by_component(commands, tmp_path):
    assert record.main(["--episode=0", f"--world-model={commands / 'bundle'}", f"--out={tmp_path / 'log'}"]) == 0
    rows = list(csv.DictReader((tmp_path / "log" / "states.csv").open()))
    episode = WorldModel.load(commands / "bundle", "cpu").held_out()[0]
    assert [int(row["step"]) for row in rows] == list(range(1, len(episode) - 2))
    true = [[float(row["true_0"]), float(row["true_1"])] for row in rows]
    np.testing.assert_allclose(true, episode.observations["state"][4:], atol=1e-5)
    np.testing.assert_allclose([float(row["true_reward"]) for row in rows], episode.rewards[3:], rtol=1e-4)
    assert all(np.isfinite(float(row["dream_1"]) + float(row["dream_reward"])) for row in rows)
    assert (tmp_path / "log" / "dream_vs_real.mp4").stat().st_size > 100
    assert (tmp_path / "log" / "states.png").stat().st_size > 100
    assert not (tmp_path / "log" / "trajectory.png").exists()


def test_its_demo_shows_what_was_observed_and_earned(commands, tmp_path, capsys):
    out = tmp_path / "demo"
    assert demo.main([f"--world-model={commands / 'bundle'}", f"--out={out}"]) == 0
    assert {path.name for path in out.iterdir()} == {
        "dream_vs_real.mp4",
        "metrics.json",
        "report.html",
        "states.csv",
        "states.png",
    }
    assert "state_r2_mean_at_25" in capsys.readouterr().out
    page = (out / "report.html").read_text()
    metrics = json.loads((out / "metrics.json").read_text())
    assert f"{metrics['state_r2_mean']:.3f}" in page
    assert "nan" not in page.lower().replace("finance", "")
    model = WorldModel.load(commands / "bundle", "cpu")
    rows = list(csv.DictReader((out / "states.csv").open()))
    held_out = model.held_out()
    assert len(rows) == sum(max(0, steps - 3) for steps in held_out.lengths)
    assert record.main(["--episode=0", f"--world-model={commands / 'bundle'}", f"--out={tmp_path / 'log'}"]) == 0
    recorded = list(csv.DictReader((tmp_path / "log" / "states.csv").open()))
    for one, other in zip(recorded, rows, strict=False):  # the environment and the open loop dream the same
        assert {key: float(value) for key, value in one.items()} == pytest.approx(
            {key: float(value) for key, value in other.items()}, abs=1e-3
        )


def best(env):
    """A policy of somebody's own."""
    return lambda observation: env.action_space.high


def test_an_agent_of_the_dream_is_played_in_the_environment(commands, tmp_path, capsys):
    run, world = tmp_path / "run", f"--world_model={commands / 'bundle'}"
    learned = ["--timesteps=256", "--n_envs=4", "--eval_every=128", "--eval_episodes=2", "--despite_verdict"]
    shape = ['--policy_kwargs={"net_arch": [8]}', f"--hyperparameters={PPO}"]
    assert train_agent.main([f"--out={run}", world, *learned, *shape, "--eval_real=2", f"--real={DOT}"]) == 0
    assert len((run / "evaluations_real.csv").read_text().splitlines()) == 3
    assert Agent.load(run / "agent").env_kwargs == {"obs_type": "env"}
    policies = json.dumps([str(run / "agent"), "random", "tests.train.test_twins:best"])
    out, figures = tmp_path / "transfer", tmp_path / "figures.json"
    arguments = [world, f"--out={out}", f"--policies={policies}", "--episodes=3", f"--real={DOT}"]
    assert transfer.main([*arguments, f"--json={figures}"]) == 0
    found = json.loads(figures.read_text())
    assert {"random_dream_return", "random_real_return", "random_pictures_return", "pearson"} <= found.keys()
    assert found["tests.train.test_twins:best_real_return"] != found["random_real_return"]
    assert "there, through the bundle's eyes" in (out / "transfer.md").read_text()
    capsys.readouterr()
    assert transfer.main([*arguments, f"--json={figures}"]) == 0
    assert "going on from the episodes of random" in capsys.readouterr().err
    assert json.loads(figures.read_text()) == found


def test_an_agent_can_be_trained_in_the_environment_itself(commands, tmp_path, capsys):
    arguments = [f"--world_model={commands / 'bundle'}", "--env=CosmosReal-v0", f"--real={DOT}", "--timesteps=64"]
    arguments += ["--n_envs=2", "--eval_every=64", "--eval_episodes=1", f"--hyperparameters={PPO}"]
    assert train_agent.main([f"--out={tmp_path / 'run'}", *arguments]) == 0
    assert Agent.load(tmp_path / "run" / "agent").trained["env"] == "CosmosReal-v0"
    assert train_agent.main([f"--out={tmp_path / 'other'}", *arguments, "--obs_type=latent"]) == 1
    assert "the environment itself shows no 'latent'" in capsys.readouterr().err


def test_what_others_have_recorded_with_minari_becomes_a_twin(tmp_path, tiny_perception, tiny_fit):
    env = AddRenderObservation(gym.make("Dot-v0", render_mode="rgb_array"), render_only=False)
    data = tmp_path / "data"
    storage = MinariStorage.new(data, env.observation_space, env.action_space, data_format="hdf5", jpeg_encoding=False)
    for seed in range(12):
        seen, steps = [env.reset(seed=seed)[0]], []
        while not steps or not (steps[-1][2] or steps[-1][3]):
            action = env.action_space.sample()
            observation, *outcome, _ = env.step(action)
            seen.append(observation)
            steps.append((action, *outcome))
        observations = {key: [each[key] for each in seen] for key in seen[0]}
        storage.update_episodes([EpisodeBuffer(seed, seed, None, observations, *map(list, zip(*steps, strict=True)))])
    storage.update_metadata({"dataset_id": "dots/theirs-v0", "minari_version": "0.5.0", "env_spec": env.spec.to_json()})
    assign_splits(data, seed=0)
    scene = EpisodeDataset(data).scene
    assert (scene.name, scene.episode_steps, scene.environment.picture) == ("Dot-v0", 12, "pixels")
    tiny = [option for option in tiny_perception if not option.startswith("--readout")]
    assert fit_tokenizer.main([f"--data={data}", f"--out={tmp_path / 'eyes'}", "--heads.updates=5", *tiny]) == 0
    arguments = [f"--data={data}", f"--perception={tmp_path / 'eyes'}", f"--out={tmp_path / 'bundle'}"]
    assert fit_dynamics.main([*arguments, "--dynamics.width=16", "--dynamics.blocks=1", *tiny_fit]) == 0
    dream = DreamEnv(tmp_path / "bundle")
    assert dream.observation_space == env.observation_space
    observation, _ = dream.reset(seed=0)
    assert observation in dream.observation_space
    assert observation.keys() == {"state", "pixels"}


def test_a_lerobot_dataset_becomes_a_twin_whose_environment_has_to_be_named(
    commands, tmp_path, tiny_perception, tiny_fit, capsys
):
    assert export_lerobot.main([str(commands / "data"), "--out", str(tmp_path / "lerobot")]) == 0
    data = f"--data={tmp_path / 'data'}"
    assert import_lerobot.main([str(tmp_path / "lerobot"), "--out", str(tmp_path / "data")]) == 0
    tiny = [option for option in tiny_perception if not option.startswith("--readout")]
    assert fit_tokenizer.main([data, f"--out={tmp_path / 'eyes'}", "--heads.updates=5", *tiny]) == 0
    arguments = [data, f"--perception={tmp_path / 'eyes'}", f"--out={tmp_path / 'bundle'}"]
    assert fit_dynamics.main([*arguments, "--dynamics.width=16", "--dynamics.blocks=1", *tiny_fit]) == 0
    dream = DreamEnv(tmp_path / "bundle")
    assert dream.observation_space.shape == (2,)
    observation, _ = dream.reset(seed=0)
    assert observation in dream.observation_space
    assert np.isfinite(dream.step(dream.action_space.sample())[1])
    capsys.readouterr()
    played = [f"--world_model={tmp_path / 'bundle'}", "--policies=[random]", f"--out={tmp_path / 'transfer'}"]
    assert transfer.main(played) == 1
    assert "the recordings are of no known environment: name the environment" in capsys.readouterr().err
    assert transfer.main([*played, f"--real={DOT}"]) == 1
    assert "Dot-v0 has the observation_space" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--policies=[random]", "--real=CartPole-v1"], "the recordings are of Dot-v0, not of CartPole-v1"),
        ([f"--real={DOT}", "--policies=[scripted]"], "scripted"),
        ([f"--real={DOT}", "--policies=[nowhere.at.all:best]"], "No module named 'nowhere'"),
    ],
)
def test_what_cannot_be_compared_is_one_line(commands, tmp_path, capsys, more, told):
    assert transfer.main([f"--world_model={commands / 'bundle'}", f"--out={tmp_path / 'out'}", *more]) == 1
    error = capsys.readouterr().err
    assert told in error
    assert "Traceback" not in error


def test_no_claims_are_made_of_returns(commands, tmp_path, capsys):
    argv = [f"--world_model={commands / 'bundle'}", f"--out={tmp_path / 'out'}", f"--known={tmp_path}"]
    assert transfer.main(argv) == 1
    assert "--known tells how far success was off, and a twin has returns" in capsys.readouterr().err


def test_a_twin_and_its_agent_improve_together(commands, tmp_path, capsys):
    argv = [f"--data={commands / 'data'}", f"--world_model={commands / 'bundle'}", f"--out={tmp_path / 'out'}"]
    argv += ["--rounds=1", "--episodes=8", "--updates=8", "--timesteps=64", "--measured=2", "--workers=1"]
    argv += [f"--hyperparameters={PPO}", "--despite_verdict", f"--json={tmp_path / 'numbers.json'}"]
    assert improve.main([*argv, "--real=Pendulum-v1"]) == 1
    assert "the recordings are of Dot-v0, not of Pendulum-v1" in capsys.readouterr().err
    assert improve.main([*argv, f"--real={DOT}", "--candidates=2"]) == 1
    assert "candidates are planned on our table only" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert improve.main([*argv, f"--real={DOT}"]) == 0
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert {"round_0_real_return", "round_1_dream_return", "round_1_state_r2_mean"} <= numbers.keys()
    assert "| gained in reality |" in (tmp_path / "out" / "improvement.md").read_text()
    by_agent, smooth = (EpisodeDataset(tmp_path / "out" / "round_1" / name) for name in ("data", "explored"))
    assert (len(by_agent), len(smooth)) == (4, 4)
    assert not set(by_agent.seeds) & set(smooth.seeds)
    assert by_agent.metadata["policy"].endswith("agent")
