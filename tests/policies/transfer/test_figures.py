import numpy as np
import pytest

from cosmos_isaac_wm.policies.agent import Agent
from cosmos_isaac_wm.policies.transfer import BothWorlds, Played, transfer_figures
from cosmos_isaac_wm.policies.transfer.page import table


def played(rate, count=20):
    wins = round(rate * count)
    return Played([True] * wins + [False] * (count - wins), list(np.linspace(0, 1, count)), [0.1] * count, [9] * count)


class Trained(Agent):
    def __init__(self, env, budget=100, chosen="best", path=None, **env_kwargs):
        trained = {"env": env, "budget": budget, "chosen": chosen}
        super().__init__(None, "ppo", "MultiInputPolicy", env_kwargs=env_kwargs, trained=trained, path=path)

    def fingerprint(self):
        return f"agent {id(self)}"


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
    rows = {name: BothWorlds(played(dream), played(real)) for name, (dream, real) in rates.items()}
    found = transfer_figures(rows, sources)
    assert found["real_success"] == pytest.approx(0.9)
    assert found["real_success_seeds"] == 2
    assert found["exploitation_gap"] == pytest.approx(0.05)
    assert found["over_real_trained"] == pytest.approx(0.9 / 0.6)
    assert found["planner_real_success"] == 0.75
    assert found["scripted_real_success"] == 0.95
    assert found["policies"] == 8
    assert found["spearman_low"] <= found["spearman"] <= found["spearman_high"]


def test_returns_tell_policies_apart_that_all_succeed_in_the_dream():
    def alike(mean):
        return Played([True] * 20, [mean] * 20, [0.1] * 20, [9] * 20)

    rows = {str(mean): BothWorlds(alike(mean), played(mean / 10)) for mean in (5.0, 7.0, 9.0, 10.0)}
    for mean, row in zip((4.0, 6.0, 7.0, 9.5), rows.values(), strict=True):
        row.real.episode_return[:] = [mean] * 20
    found = transfer_figures(rows, dict.fromkeys(rows, "random"))
    assert "spearman" not in found  # all succeed
    assert found["return_spearman"] == pytest.approx(1.0)
    rows["0.0"] = BothWorlds(played(0.0), played(0.0))
    found = transfer_figures(rows, dict.fromkeys(rows, "random"))
    assert found["spearman"] < 0.9
    assert found["return_spearman"] == pytest.approx(1.0)
    assert found["return_pearson"] > 0.95
    assert "by return: pearson 0.9" in table(rows, found)


def test_clear_success_foretells_reality_where_it_was_played():
    rates = {"a": (1.0, 0.4, 0.5), "b": (1.0, 0.6, 0.7), "c": (1.0, 0.9, 0.95), "d": (0.5, 0.1, 0.1)}
    rows = {
        name: BothWorlds(*(played(rate) for rate in (dream, real)), clear=played(clear))
        for name, (dream, clear, real) in rates.items()
    }
    found = transfer_figures(rows, dict.fromkeys(rows, "random"))
    assert found["a_clear_success"] == 0.4
    assert found["a_dream_success"] == 1.0
    assert found["pearson"] > 0.99
    assert found["mmrv"] == 0.0
    alone = {name: BothWorlds(row.dream, row.real) for name, row in rows.items()}
    assert transfer_figures(alone, dict.fromkeys(rows, "random"))["pearson"] < 0.95


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
    rows = {name: BothWorlds(played(1.0), played(1.0)) for name in ("dream", "real", "never")}
    assert transfer_figures({name: rows[name] for name in sources}, sources)["time_ratio"] == pytest.approx(20 / 50)
    sources["never"] = Trained("CosmosReal-v0", path=never)
    assert "time_ratio" not in transfer_figures({name: rows[name] for name in sources}, sources)
