"""`cosmos-wm compare` end to end, on the toy world with seconds of training."""

import dataclasses
import json
import shutil

import pytest

from cosmos_isaac_wm.data import write_dataset
from cosmos_isaac_wm.train import compare, fit_tokenizer
from cosmos_isaac_wm.training import timing
from cosmos_isaac_wm.training.ablations import ABLATIONS
from cosmos_isaac_wm.world_model import WorldModel

SYSTEMS = ["resnet_rollout", "probabilistic_plus", "context_8", "one_trajectory_a_kind"]


@pytest.fixture(scope="module")
def compared(dataset, tmp_path_factory):
    """The arguments of a comparison that has been made, and where it is."""
    folder = tmp_path_factory.mktemp("compare")
    shapes = ["--tokenizer.widths=[16,16]", "--tokenizer.blocks=1", "--fit.updates=30", "--fit.crop=32"]
    shapes += ["--fit.batch_size=8", "--readout.updates=30", "--device=cpu"]
    assert fit_tokenizer.main([f"--data={dataset.path}", f"--out={folder / 'perception'}", *shapes]) == 0
    arguments = [f"--data={dataset.path}", f"--perception={folder / 'perception'}", f"--out={folder / 'results'}"]
    arguments += [f"--systems={json.dumps(SYSTEMS)}", "--minutes_per_model=0.005", "--contexts=4", "--device=cpu"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "_LEAST_S", 0.01)
        assert compare.main([*arguments, f"--json={folder / 'first.json'}"]) == 0
    return arguments, folder


def test_everything_is_written_under_the_reports_names(compared):
    results = compared[1] / "results"
    expected = ["comparison.md", "comparison.mp4", "dream_push.png", "error_vs_horizon.png", "error_vs_parameters.png"]
    for name in SYSTEMS:
        expected += [f"training_{name}.log", f"tracking_metrics_{name}.txt", f"dynamics_ckpts_{name}/checkpoint.pt"]
    for file in [*expected, "report.html"]:
        assert (results / file).stat().st_size > 100, file
    page = (results / "report.html").read_text()
    assert all(name in page for name in [*SYSTEMS, "71.1", "77.8", "nothing moves"])


def test_every_system_is_a_bundle_of_its_shape(compared):
    models = [WorldModel.load(compared[1] / "results" / f"dynamics_ckpts_{name}" / "bundle") for name in SYSTEMS]
    assert [type(model.dynamics).__name__ for model in models] == [
        "ResNetRollout", "ProbabilisticPlus", "ResNetRollout", "ResNetRollout",
    ]  # fmt: skip
    assert [model.dynamics.context_length for model in models] == [4, 4, 8, 4]
    assert all(model.dynamics.action_dim == 2 for model in models)


def test_a_second_run_measures_nothing_again_and_says_the_same(compared, monkeypatch):
    arguments, folder = compared
    monkeypatch.setattr(compare.Compare, "_train", lambda *args: pytest.fail("trained again"))
    assert compare.main([*arguments, f"--json={folder / 'second.json'}"]) == 0
    first, second = (json.loads((folder / f"{run}.json").read_text()) for run in ("first", "second"))
    assert first == second
    assert first["resnet_rollout_push_episodes"] == 1
    assert first["context_8_horizon"] == first["resnet_rollout_horizon"] == 17 - 8  # all dream the same steps


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [("--minutes_per_model", "7", "minutes_per_model 0.005 instead of 7.0"), ("--seed", "3", "seed 0 instead of 3")],
)
def test_a_folder_of_another_comparison_is_refused(compared, capsys, option, value, message):
    assert compare.main([*compared[0], f"{option}={value}"]) == 1
    assert message in capsys.readouterr().err


def test_a_perception_of_another_scene_is_refused_before_any_training(compared, scene, make_episode, tmp_path, capsys):
    smaller = dataclasses.replace(scene, image_size=(16, 16))
    write_dataset(
        tmp_path / "small", [make_episode(smaller, seed) for seed in range(3)], smaller, ["train", "val", "test"]
    )
    assert compare.main([f"--data={tmp_path / 'small'}", *compared[0][1:]]) == 1
    assert "but the perception has (32, 32)" in capsys.readouterr().err


def test_an_unknown_system_is_named_with_the_nearest_ones(compared, capsys):
    arguments = [argument for argument in compared[0] if not argument.startswith("--systems")]
    assert compare.main([*arguments, '--systems=["probabilistic"]']) == 1
    assert "unknown system 'probabilistic'; did you mean probabilistic_plus" in capsys.readouterr().err


@pytest.mark.parametrize("name", [*compare.SYSTEMS, *ABLATIONS])
def test_an_ablation_changes_one_thing(name):
    system = compare.recipe(name)
    assert system.shape.action_dim > 0
    if name in ABLATIONS:
        whole = compare.recipe("resnet_rollout")
        differing = [
            field.name
            for ours, theirs in ((system.shape, whole.shape), (system.fit, whole.fit))
            for field in dataclasses.fields(ours)
            if getattr(ours, field.name) != getattr(theirs, field.name)
        ]
        assert system.model == whole.model
        assert len(differing) + (ABLATIONS[name].episodes is not None) == 1


def test_a_ray_cluster_trains_and_judges_the_same(compared, tmp_path, ray_cluster, one_thread):
    """As many updates as were measured here, since time differs from machine to machine."""
    arguments, folder = compared
    system, found = "dynamics_ckpts_resnet_rollout", {}
    argv = [argument for argument in arguments if not argument.startswith(("--out", "--systems"))]
    for name, more in (("here", []), ("there", [f"--ray={ray_cluster.address}"])):
        out, numbers = tmp_path / name, tmp_path / f"{name}.json"
        (out / system).mkdir(parents=True)
        shutil.copy(folder / "results" / system / "plan.json", out / system)
        assert compare.main([*argv, f"--out={out}", '--systems=["resnet_rollout"]', f"--json={numbers}", *more]) == 0
        found[name] = json.loads(numbers.read_text())
    bundles = [WorldModel.load(tmp_path / name / system / "bundle") for name in found]
    assert bundles[0].fingerprint() == bundles[1].fingerprint()
    timed = {"resnet_rollout_ms_a_frame", "resnet_rollout_train_minutes"}
    here, there = ({key: own[key] for key in own.keys() - timed} for own in found.values())
    assert here == there


def test_a_node_that_does_not_share_the_disk_is_told_which_folder_it_lacks(tmp_path):
    compare._must_see([tmp_path])
    with pytest.raises(FileNotFoundError, match=f"no folder {tmp_path / 'data'}; data, perception and out must be on"):
        compare._must_see([tmp_path, tmp_path / "data"])
