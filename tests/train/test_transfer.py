import json

import numpy as np
import pytest

from cosmos_isaac_wm.policies.agent import Agent
from cosmos_isaac_wm.policies.transfer import Played, Start
from cosmos_isaac_wm.train import cli, train_agent, transfer
from cosmos_isaac_wm.train.transfer import Row, numbers, table


def played(rate, count=20):
    wins = round(rate * count)
    return Played([True] * wins + [False] * (count - wins), list(np.linspace(0, 1, count)), [0.1] * count, [9] * count)


class Trained(Agent):
    def __init__(self, env, budget=100, chosen="best", path=None, **env_kwargs):
        trained = {"env": env, "budget": budget, "chosen": chosen}
        super().__init__(None, "ppo", "MultiInputPolicy", env_kwargs=env_kwargs, trained=trained, path=path)


def test_seeds_of_one_agent_count_as_one_and_its_rival_is_the_one_trained_as_long():
    sources = {
        "a": Trained("CosmosDream-v0"),
        "b": Trained("CosmosDream-v0"),
        "early": Trained("CosmosDream-v0", chosen="checkpoint"),
        "other": Trained("CosmosDream-v0", reward_type="dense"),
        "real": Trained("CosmosReal-v0"),
        "longer": Trained("CosmosReal-v0", budget=200),
        "icem": "icem",
        "scripted": "scripted",
    }
    rates = {"a": (0.9, 0.8), "b": (1.0, 1.0), "early": (1, 1), "other": (0.1, 1), "real": (0.5, 0.6), "longer": (1, 1)}
    rates |= {"icem": (0.7, 0.75), "scripted": (0.9, 0.95)}
    rows = {name: Row(played(dream), played(real)) for name, (dream, real) in rates.items()}
    found = numbers(rows, sources)
    assert found["real_success"] == pytest.approx(0.9)
    assert found["real_success_seeds"] == 2
    assert found["exploitation_gap"] == pytest.approx(0.05)
    assert found["over_real_trained"] == pytest.approx(0.9 / 0.6)
    assert found["planner_real_success"] == 0.75
    assert found["scripted_real_success"] == 0.95
    assert found["policies"] == 8
    assert found["spearman_low"] <= found["spearman"] <= found["spearman_high"]


def test_time_saved_is_told_by_runs_that_were_watched_in_reality(tmp_path):
    def watched(run, table, rates):
        (tmp_path / run).mkdir()
        (tmp_path / run / "training.json").write_text("{}")
        rows = [f"{1000 * n},{10 * n},{rate},0.0,50" for n, rate in enumerate(rates, start=1)]
        (tmp_path / run / table).write_text("\n".join(["timesteps,seconds,success,mean_return,mean_length", *rows]))
        return tmp_path / run / "agent"

    dream = watched("dream", "evaluations_real.csv", [0.2, 0.9, 0.8])
    real = watched("real", "evaluations.csv", [0.1, 0.2, 0.3, 0.5, 0.86])
    never = watched("never", "evaluations.csv", [0.1, 0.84])
    sources = {"dream": Trained("CosmosDream-v0", path=dream), "real": Trained("CosmosReal-v0", path=real)}
    rows = {name: Row(played(1.0), played(1.0)) for name in ("dream", "real", "never")}
    assert numbers({name: rows[name] for name in sources}, sources)["time_ratio"] == pytest.approx(20 / 50)
    sources["never"] = Trained("CosmosReal-v0", path=never)
    assert "time_ratio" not in numbers({name: rows[name] for name in sources}, sources)


def test_the_table_calls_exploitation_by_its_name():
    rows = {"honest": Row(played(0.5), played(0.5)), "cheat": Row(played(0.9), played(0.2))}
    text = table(rows, {"exploitation_gap": 0.7, "real_success": 0.9})
    assert "**Exploitation:** cheat succeeds more often in the dream than in reality, by 0.70." in text
    assert "honest succeeds" not in text
    assert "exploitation_gap: 0.700 (missed)" in text
    assert "real_success: 0.900 (bar)" in text


def test_an_agent_with_a_goal_of_its_own_gets_starts_that_are_away_from_it():
    latents = np.zeros((4, 16, 4, 4), np.float32)
    starts = [Start(0, latents, np.zeros(2), np.array([x, 0.1])) for x in (0.0, 0.12, 0.3)]
    agent = Trained("CosmosDream-v0", obs_type="latent", goal=[0.1, 0.1])
    known = transfer._known_goal(agent, starts)
    assert [start.subject[0] for start in known] == [0.0, 0.3]
    assert all(start.goal.tolist() == [0.1, 0.1] for start in known)
    assert transfer._known_goal("random", starts) is starts
    with pytest.raises(ValueError, match="1 starts are too near"):
        transfer._known_goal(agent, starts[1:2])


def test_a_folder_says_which_setting_it_was_claimed_with(tmp_path):
    cli.claim(tmp_path / "transfer.json", {"seed": 0, "real": "isaac-lab"})
    with pytest.raises(ValueError, match=r"holds another transfer \(real isaac-lab instead of None\)"):
        cli.claim(tmp_path / "transfer.json", {"seed": 0})


def test_a_film_of_somebody_else_is_refused(bundle, tmp_path, capsys):
    argv = ["--policies", '["random"]', "--world_model", str(bundle), "--out", str(tmp_path), "--filmed", "icem"]
    assert transfer.main(argv) == 1
    assert "--filmed icem is none of the policies" in capsys.readouterr().err


def test_a_bundle_without_an_agent_says_so(bundle, tmp_path, capsys, monkeypatch):
    class Enough(Exception):
        pass

    def stop(*_, **__):
        raise Enough

    monkeypatch.setattr(transfer, "RealEnv", stop)
    with pytest.raises(Enough):
        transfer.run(world_model=str(bundle), out=tmp_path / "out")
    assert f"{bundle} has no agent of its own; --policies names others" in capsys.readouterr().err


def test_an_unknown_policy_is_named_before_anything_is_played(bundle, tmp_path, capsys):
    argv = ["--policies", '["nobody"]', "--world_model", str(bundle), "--out", str(tmp_path / "out")]
    assert transfer.main(argv) == 1
    assert "no agent 'nobody'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.opengl
def test_policies_are_played_in_both_worlds_once(bundle, tmp_path, capsys):
    argv = ["--out", tmp_path / "run", "--world_model", bundle, "--timesteps", 64, "--n_envs", 4]
    argv += ["--hyperparameters", '{"n_steps": 16, "batch_size": 64, "n_epochs": 1}', "--eval_every", 10**6]
    assert train_agent.main(list(map(str, argv))) == 0
    agent = str(tmp_path / "run" / "agent")
    argv = ["--policies", json.dumps([agent, "random", "scripted", "cem"]), "--world_model", bundle]
    argv += ["--out", tmp_path / "out", "--episodes", 2, "--json", tmp_path / "numbers.json"]
    assert transfer.main(list(map(str, argv))) == 0
    found = json.loads((tmp_path / "numbers.json").read_text())
    assert 0 <= found[f"{agent}_real_success"] <= 1
    assert "cem thinks of" in (tmp_path / "out" / "transfer.md").read_text()
    for name in ("transfer.png", "transfer.mp4"):
        assert (tmp_path / "out" / name).stat().st_size > 1000
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("episodes_*.json")}
    assert len(files) == 4
    assert transfer.main(list(map(str, argv))) == 0
    assert {path: path.stat().st_mtime_ns for path in files} == files  # not played again
    assert transfer.main([*map(str, argv), "--episodes", "3"]) == 1
    assert "holds another transfer (episodes 2 instead of 3)" in capsys.readouterr().err
