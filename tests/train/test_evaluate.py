import json

import numpy as np
import pytest

from cosmos_isaac_wm.data import EpisodeDataset
from cosmos_isaac_wm.evaluation import surprise
from cosmos_isaac_wm.evaluation.evaluation import evaluate
from cosmos_isaac_wm.train.evaluate import main
from cosmos_isaac_wm.world_model import WorldModel


def test_the_table_is_printed_and_the_numbers_are_written(bundle, dataset, tmp_path, capsys):
    target = tmp_path / "numbers.json"
    arguments = ["--world-model", str(bundle), "--data", str(dataset.path), "--split", "all", "--json", str(target)]
    assert main([*arguments, "--seed", "3"]) == 0
    expected = evaluate(WorldModel.load(bundle), EpisodeDataset(dataset.path), seed=3).numbers()
    assert json.loads(target.read_text()) == pytest.approx(expected, rel=1e-4)
    assert "10 push episodes" in capsys.readouterr().out


def test_only_the_test_split_is_measured_unless_another_is_named(bundle, dataset, tmp_path):
    target = tmp_path / "numbers.json"
    assert main([f"--world-model={bundle}", f"--data={dataset.path}", f"--json={target}", "--horizon", "4"]) == 0
    numbers = json.loads(target.read_text())
    assert (numbers["push_episodes"], numbers["horizon"]) == (1, 4)


def test_a_bundle_without_episodes_asks_for_data(bundle, capsys):
    assert main(["--world-model", str(bundle)]) == 1
    assert "ships no held-out episodes; pass a dataset with --data" in capsys.readouterr().err


def test_asking_for_more_episodes_than_there_are_is_an_error(bundle, dataset, capsys):
    assert main(["--world-model", str(bundle), "--data", str(dataset.path), "--episodes", "5"]) == 1
    assert "asked for 5 episodes of split 'test'" in capsys.readouterr().err


@pytest.mark.parametrize("far", [False, True])
def test_recordings_of_another_world_are_named(far, tmp_path, monkeypatch, capsys):
    shipped = WorldModel.load("default", "cpu").path / "episodes"
    rng, calls = np.random.default_rng(0), iter(range(10**6))
    known = len(EpisodeDataset(shipped))
    monkeypatch.setattr(surprise, "signs", lambda *_: rng.normal(9.0 if far and next(calls) >= known else 0.0, 1.0, 5))
    argv = ["--data", str(shipped), "--split", "all", "--episodes", "16", "--horizon", "2", "--device", "cpu"]
    assert main([*argv, "--json", str(tmp_path / "figures")]) == 0
    figures = json.loads((tmp_path / "figures").read_text())
    assert (figures["push_surprising_share"] == 1) == (figures["slide_surprising_share"] == 1) == far
    assert (
        "push: 100% of these episodes surprise the bundle more than 95% of its own" in capsys.readouterr().out
    ) == far
