import copy
import dataclasses
import json

import gymnasium as gym
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cosmos_isaac_wm.envs import DreamEnv
from cosmos_isaac_wm.policies.agent import Agent
from cosmos_isaac_wm.policies.checkpoints import Checkpoints
from cosmos_isaac_wm.policies.evaluations import read_evaluations
from cosmos_isaac_wm.train import info, train_agent
from cosmos_isaac_wm.training.verdict import Verdict
from cosmos_isaac_wm.world_model import WorldModel
from tests.campaigns.same import logged

QUICK = {
    "ppo": '{"n_steps": 16, "batch_size": 64, "n_epochs": 1}',
    "sac": '{"learning_starts": 100, "train_freq": 8, "gradient_steps": 1, "buffer_size": 2000}',
}
QUICK["td3"] = QUICK["sac_her"] = QUICK["sac"]


@pytest.fixture
def train(bundle, tmp_path):
    """Run the command for some steps and return its numbers."""

    def run(*more, steps=400, algorithm="ppo", out="run"):
        argv = ["--out", tmp_path / out, "--world_model", bundle, "--algorithm", algorithm, "--timesteps", steps]
        argv += ["--n_envs", 8, "--eval_every", 200, "--eval_episodes", 4, "--checkpoint_every", 200]
        argv += ["--policy_kwargs", '{"net_arch": [16]}', "--hyperparameters", QUICK[algorithm]]
        status = train_agent.main([*map(str, argv), "--json", str(tmp_path / "out.json"), *more])
        return json.loads((tmp_path / "out.json").read_text()) if status == 0 else None

    return run


@pytest.mark.parametrize("algorithm", list(QUICK))
def test_every_algorithm_trains_and_leaves_an_agent(train, tmp_path, bundle, algorithm):
    numbers = train(algorithm=algorithm)
    assert numbers["steps"] >= 400
    assert 0 <= numbers["success"] <= 1
    agent = Agent.load(tmp_path / "run" / "agent")
    env = DreamEnv(str(bundle), **{key: value for key, value in agent.env_kwargs.items() if value is not None})
    agent.check(env, env.world_model.fingerprint())
    assert env.action_space.contains(agent.predict(env.reset(seed=0)[0])[0])
    assert (tmp_path / "run" / "learning_curve.png").stat().st_size > 0
    assert [row.timesteps for row in read_evaluations(tmp_path / "run" / "evaluations.csv")] == [200, 400]


@pytest.mark.parametrize("algorithm", ["ppo", "sac_her"])
def test_a_run_goes_on_from_its_last_checkpoint(train, tmp_path, algorithm, capsys):
    first = train(algorithm=algorithm)
    numbers = train(algorithm=algorithm, steps=800)
    assert f"going on from step {first['steps']:.0f} of" in capsys.readouterr().err
    assert 800 <= numbers["steps"] < 1000
    assert numbers["seconds"] > first["seconds"]
    rows = read_evaluations(tmp_path / "run" / "evaluations.csv")
    assert [row.timesteps for row in rows] == [200, 400, 600, 800]
    assert np.all(np.diff([row.seconds for row in rows]) > 0)


def test_a_finished_run_is_not_trained_further(train, tmp_path):
    first = train()
    agent = (tmp_path / "run" / "agent" / "policy.safetensors").stat().st_mtime_ns
    assert train()["steps"] == first["steps"]
    assert (tmp_path / "run" / "agent" / "policy.safetensors").stat().st_mtime_ns == agent


@pytest.mark.parametrize("algorithm", ["ppo", "sac"])
def test_a_budget_in_minutes_ends_with_an_evaluation_and_its_agent(train, tmp_path, algorithm):
    numbers = train("--minutes", "0.03", "--eval_every", "100000", steps=10**6, algorithm=algorithm)
    assert 1.8 <= numbers["seconds"] < 6
    assert 0 < numbers["steps"] < 10**6
    (row,) = read_evaluations(tmp_path / "run" / "evaluations.csv")
    assert row.timesteps == numbers["steps"]
    assert Agent.load(tmp_path / "run" / "agent").trained["steps"] == row.timesteps
    again = train("--minutes", "0.03", "--eval_every", "100000", steps=10**6, algorithm=algorithm)
    assert again["steps"] == numbers["steps"]
    more = train("--minutes", "0.06", "--eval_every", "100000", steps=10**6, algorithm=algorithm)
    assert more["steps"] > numbers["steps"]
    assert len(read_evaluations(tmp_path / "run" / "evaluations.csv")) == 2


def test_no_time_is_no_budget(train, capsys):
    assert train("--minutes", "0") is None
    assert "minutes must be above 0" in capsys.readouterr().err


def test_without_its_replay_buffer_a_checkpoint_is_not_whole(train, tmp_path, capsys):
    train(algorithm="sac")
    buffers = (tmp_path / "run" / "checkpoints").glob("agent_replay_buffer_*")
    older, newer = sorted(buffers, key=lambda path: path.stat().st_mtime_ns)
    newer.unlink()
    train(algorithm="sac", steps=600)
    assert f"going on from step {older.stem.split('_')[-2]} of" in capsys.readouterr().err
    best = max(read_evaluations(tmp_path / "run" / "evaluations.csv"), key=lambda row: row.mean_return)
    assert Agent.load(tmp_path / "run" / "agent").trained["steps"] == best.timesteps


def test_hindsight_needs_rewards_of_goals(train, capsys):
    assert train("--reward_type", "progress", algorithm="sac_her") is None
    assert "hindsight needs rewards that follow from goals" in capsys.readouterr().err


def test_another_training_in_the_same_folder_is_refused(train, capsys):
    train()
    assert train("--reward_type", "sparse") is None
    assert "holds another training (reward_type progress instead of sparse)" in capsys.readouterr().err


def test_a_damaged_checkpoint_is_named(train, tmp_path, capsys):
    steps = int(train()["steps"])
    (tmp_path / "run" / "checkpoints" / f"agent_{steps}_steps.zip").write_bytes(b"short")
    assert train(steps=800) is None
    assert f"agent_{steps}_steps.zip cannot be continued" in capsys.readouterr().err


def test_latents_need_a_fixed_goal_and_can_be_stacked(train, capsys):
    assert train("--obs_type", "latent") is None
    assert "does not show the goal" in capsys.readouterr().err
    assert train("--obs_type", "latent", "--goal", "[0.1, 0.1]", "--frame_stack", "3")["steps"] >= 400


def test_the_algorithm_of_a_config_file_fills_the_defaults(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(train_agent.cli, "run", lambda *arguments: seen.append(arguments[-1]) or 0)
    (tmp_path / "mine.yaml").write_text("algorithm: td3\ntimesteps: 5\n")
    for argv in (["--config", str(tmp_path / "mine.yaml")], ["--algorithm", "sac"], ["--algorithm", "nonsense"], []):
        train_agent.main(argv)
    assert seen == ["td3.yaml", "sac.yaml", "ppo.yaml", "ppo.yaml"]


def test_only_the_newest_two_replay_buffers_stay(train, tmp_path):
    train(algorithm="sac", steps=800)
    kept = [path.stem.split("_")[-2] for path in (tmp_path / "run" / "checkpoints").glob("agent_replay_buffer_*")]
    assert len(kept) == 2
    assert max(map(int, kept)) >= 800
    assert len(list((tmp_path / "run" / "checkpoints").glob("*.zip"))) >= 4


def test_unknown_hyperparameters_are_named(train, capsys):
    assert train("--hyperparameters", '{"n_stepz": 3}') is None
    assert "refuses these hyperparameters" in capsys.readouterr().err


def test_a_dream_that_teaches_nothing_is_refused_unless_told_otherwise(model, tmp_path, capsys):
    useless = copy.deepcopy(model)
    figures = {"error": 80.0, "still": 80.5, "response": 0.01, "growth": 1.0, "good_steps": 0.0, "steps": 97.0}
    useless.verdict = Verdict(figures, "px")
    useless.save(tmp_path / "useless")
    with pytest.warns(UserWarning, match="no better than a still picture and ignores actions"):
        gym.make("CosmosDream-v0", world_model=tmp_path / "useless")
    assert info.main(["--world-model", str(tmp_path / "useless")]) == 0
    assert "is no better than a still picture and ignores actions" in capsys.readouterr().out
    argv = ["--out", str(tmp_path / "run"), "--world_model", str(tmp_path / "useless"), "--timesteps", "16"]
    argv += ["--n_envs", "2", "--eval_episodes", "2", "--hyperparameters", '{"n_steps": 8, "batch_size": 8}']
    assert train_agent.main(argv) == 1
    assert "--despite_verdict" in capsys.readouterr().err
    with pytest.warns(UserWarning, match="no better"):
        assert train_agent.main([*argv, "--despite_verdict"]) == 0


def test_a_verdict_survives_the_bundle(model, tmp_path):
    judged = copy.deepcopy(model)
    figures = {"error": 8.0, "still": 80.5, "response": 0.9, "growth": 1.0, "good_steps": 40.0, "steps": 97.0}
    judged.verdict = Verdict(figures, "mm", unseen=False)
    judged.save(tmp_path / "judged")
    assert WorldModel.load(tmp_path / "judged").verdict == judged.verdict
    assert "good to about 40 of 97 steps" in (tmp_path / "judged" / "README.md").read_text()


@pytest.mark.parametrize(
    ("algorithm", "more"),
    [
        ("ppo", ()),
        ("sac", ()),
        ("sac_her", ("--reward_type=sparse",)),
        ("ppo", ("--obs_type=latent16", "--goal=[0.1, 0.1]", "--frame_stack=2")),
    ],
)
def test_a_killed_training_becomes_what_it_would_have_become(train, tmp_path, monkeypatch, algorithm, more):
    train(*more, algorithm=algorithm, steps=900, out="whole")

    def killed(self, *arguments):
        save(self, *arguments)
        saved.append(self)
        if len(saved) == 2:
            raise KeyboardInterrupt

    save, saved = Checkpoints.save, []
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", killed)
        assert train(*more, algorithm=algorithm, steps=900, out="killed") is None
    train(*more, algorithm=algorithm, steps=900, out="killed")
    whole, killed = (
        {path.relative_to(tmp_path / out) for path in (tmp_path / out).rglob("*.safetensors")}
        for out in ("whole", "killed")
    )
    assert whole == killed
    for path in whole:
        one, other = (load_file(tmp_path / out / path) for out in ("whole", "killed"))
        assert all(torch.equal(one[name], other[name]) for name in one.keys() | other.keys()), path
    rows = [read_evaluations(tmp_path / out / "evaluations.csv") for out in ("whole", "killed")]
    assert [dataclasses.replace(row, seconds=0.0) for row in rows[0]] == [
        dataclasses.replace(row, seconds=0.0) for row in rows[1]
    ]
    assert logged(tmp_path / "whole") == logged(tmp_path / "killed")


def test_wariness_is_part_of_training_and_not_of_the_agent(tmp_path, monkeypatch):
    made = []
    usual = train_agent.make_vec_env
    monkeypatch.setattr(
        train_agent, "make_vec_env", lambda *args, **kwargs: made.append(kwargs) or usual(*args, **kwargs)
    )
    short = '{"n_steps": 8, "batch_size": 16, "n_epochs": 1}'
    argv = ["--world-model=pendulum", f"--out={tmp_path / 'run'}", "--n_envs=2", "--timesteps=16", "--eval_every=16"]
    argv += ["--eval_episodes=1", f"--hyperparameters={short}", "--trust=truncate", "--max_error=0.5"]
    assert train_agent.main(argv) == 0
    assert all(kwargs["trust"] == "truncate" and kwargs["max_error"] == 0.5 for kwargs in made)
    assert Agent.load(tmp_path / "run").env_kwargs == {"obs_type": "env"}
    assert train_agent.main([*argv[:-1], "--max_error=0.7"]) == 1  # another training


def test_goals_may_be_smaller_in_training_and_are_those_of_the_table(train, tmp_path, capsys):
    assert train("--goal_radius", "0.02")["steps"] >= 400
    assert Agent.load(tmp_path / "run").env_kwargs["goal_radius"] == 0.02
    assert "goal_radius" not in Agent.load(tmp_path / "run").task_kwargs  # wherever it acts goals are the scene's
    assert train("--goal_radius", "0.03") is None
    assert "holds another training (goal_radius 0.02 instead of 0.03)" in capsys.readouterr().err
    assert train("--goal_radius", "-1", out="other") is None
    assert "goal_radius must be a positive number of metres" in capsys.readouterr().err
    for option in ("--goal_radius=0.02", "--goal=[0.1, 0.1]"):
        assert train_agent.main(["--world-model=pendulum", f"--out={tmp_path / 'twin'}", option]) == 1
        assert "a twin has the goals of its environment" in capsys.readouterr().err
