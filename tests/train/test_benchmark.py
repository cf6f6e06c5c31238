import json
import sys
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cosmos_isaac_wm.data import EpisodeDataset, write_dataset
from cosmos_isaac_wm.dynamics import ResNetRollout
from cosmos_isaac_wm.rollout import DreamEngine
from cosmos_isaac_wm.train import benchmark, peers


def test_the_report_of_a_short_run_is_complete(bundle, tmp_path, capsys):
    target = tmp_path / "figures.json"
    sizes = ["--batches=[1,64]", "--repeats=2", "--seconds=0.001", "--growth_steps=20", "--compile=false"]
    arguments = [f"--world-model={bundle}", f"--out={tmp_path / 'out'}", f"--json={target}", *sizes]
    assert benchmark.main(arguments) == 0
    numbers = json.loads(target.read_text())
    printed, said = capsys.readouterr()
    assert "training was not measured: " in said  # the toy bundle has no episodes
    drawn = "the real simulator was not measured" not in said  # no OpenGL here
    missing = {
        "fit_speedup",
        "over_isaac_lab",  # the bundle is MuJoCo's
        *(() if drawn else ("over_real",)),
        *(() if find_spec("simulusion") else ("over_simulusion",)),
    }
    assert set(benchmark.BARS) - set(numbers) == missing
    assert all(value >= 0 for value in numbers.values())
    assert numbers["seed_difference_64_b8_float32"] < 1e-3
    assert numbers["vector_env_over_forward"] > 0
    report = json.loads((tmp_path / "out" / "benchmark.json").read_text())
    assert report["figures"] == numbers
    assert report["machine"]["torch"] == torch.__version__
    assert (
        len(report["rows"]) == 2 + 2 * 3 + 5 + 2 + 2 + 3 + 1 + sum(map(bool, map(find_spec, peers.PEERS))) + 3 * drawn
    )
    for row in report["rows"]:
        assert len(row["seconds"]) == 2
        assert row["name"] in printed
    assert (tmp_path / "out" / "benchmark.png").stat().st_size > 10_000


def test_the_reports_form_predicts_what_the_folded_network_predicts():
    torch.manual_seed(0)
    folded, context = ResNetRollout().eval(), torch.randn(2, 4, 16, 8, 8)
    loop = benchmark.SeedLoop(benchmark.SeedForm(folded).eval(), context)
    with torch.inference_mode():
        expected = folded(context, torch.zeros(2, 0)).latent
    torch.testing.assert_close(loop.step(), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(loop.context, torch.cat([context[:, 1:], expected.unsqueeze(1)], dim=1))


class Tables:
    """In Isaac Lab's place."""

    def __init__(self, kind, count, image_size):
        self.frames = np.zeros((count, *image_size, 3), np.uint8)

    def reset(self, seeds):
        assert len(seeds) == len(self.frames)

    def step(self, actions):
        assert actions.shape == (len(self.frames), 2)

    def render(self):
        return self.frames

    def close(self):
        self.frames = None


class Known(benchmark.Bench):
    """Calls are made, but their seconds are known."""

    def _time(self, call, count):
        call()
        return {benchmark._step_tables: 0.02, benchmark._call_in_turn: 0.04}.get(call.func, 0.01)


def test_dreams_are_measured_beside_isaac_lab_at_its_fastest(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "cosmos_isaac_wm.sims.isaac_lab", SimpleNamespace(IsaacLabTables=Tables))
    monkeypatch.setattr(model, "provenance", {"simulator": "isaac-lab"})
    bench = Known(repeats=2, seconds=0.0, device=torch.device("cpu"))
    numbers = benchmark.real_simulator(bench, model, {"dtype": "float32", "compile": False}, seed=0, batch=8)
    for count in (1, 4, 16, 64):
        assert numbers[f"isaac_lab_{count}_tables_drawn_steps_per_s"] == pytest.approx(count / 0.02)
        assert numbers[f"isaac_lab_{count}_tables_steps_per_s"] == pytest.approx(count / 0.04)
    assert [row.steps_per_s for row in bench.rows if "dreams" in row.name] == pytest.approx([8 / 0.01] * 4)
    assert numbers["over_isaac_lab"] == pytest.approx((8 / 0.01) / (64 / 0.04))


def test_calls_are_measured_in_turns():
    order = []
    bench = benchmark.Bench(repeats=3, seconds=0.0, device=torch.device("cpu"))
    over = bench.compare("group", 4, {"a": lambda: order.append("a"), "b": lambda: order.append("b")})
    assert "".join(order[4:]) == "ababab"
    assert over["a"] == 1
    assert over["b"] == pytest.approx(bench.rows[1].over)
    assert bench.rows[0].steps_per_s > 0


def test_learning_is_timed_until_it_beats_a_still_picture(world_model, scene, make_episode, tmp_path, monkeypatch):
    path = write_dataset(tmp_path / "held", (make_episode(scene, seed) for seed in range(8)), scene, ["test"] * 8)
    monkeypatch.setattr(benchmark, "_LEARNED", 1000.0)
    found = benchmark.learning(world_model, EpisodeDataset(path), 3.0, 4, seed=0)
    assert found["still_error_px512"] > 0
    for recipe in ("default", "seed"):
        assert found[f"{recipe}_seconds_to_error"] == pytest.approx(found[f"{recipe}_fit_s"] / 4)  # after one update
    monkeypatch.setattr(benchmark, "_LEARNED", 0.0)
    assert "seed_seconds_to_error" not in benchmark.learning(world_model, EpisodeDataset(path), 3.0, 4, seed=0)


def test_a_dream_in_another_library_takes_the_same_step(world_model):
    dream = peers.Dream(world_model)
    context, actions = dream.start(3), torch.full((3, 2), 0.5)
    expected = DreamEngine(world_model, 3)
    expected.reset(context)
    expected.step(actions)
    torch.testing.assert_close(dream.advance(context, actions), expected.context)
    assert dream.pose(context).shape == (3, 4)
    assert (dream.reward(dream.pose(context)) < 0).all()


def test_libraries_that_are_not_installed_are_named(world_model, monkeypatch, capsys):
    monkeypatch.setattr(peers, "find_spec", lambda module: None)
    assert peers.installed(world_model, 2, np.zeros((2, 2), np.float32)) == {}
    assert "pip install torchrl" in capsys.readouterr().out


@pytest.mark.parametrize("module", peers.PEERS)
def test_an_installed_library_steps(world_model, module):
    pytest.importorskip(module)
    step = getattr(peers, module)(peers.Dream(world_model), 2, np.zeros((2, 2), np.float32))
    for _ in range(3):
        step()
