import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from cosmos_isaac_wm.train import cli
from cosmos_isaac_wm.train.train_agent import TrainAgent


@dataclass(frozen=True)
class Toy:
    """Pretend to work.

    Attributes:
        out: A folder.
        updates: How many.
        lr: How fast.
        fail: Kind of failure.
        quick: In a hurry.
    """

    out: Path
    updates: int = 10
    lr: float = 0.5
    fail: str | None = None
    quick: bool = False

    def run(self) -> dict[str, float]:
        if self.fail == "ctrl-c":
            raise KeyboardInterrupt
        if self.fail == "value":
            raise ValueError("no dataset at nowhere; run `cosmos-wm collect` first")
        if self.fail == "disk":
            raise OSError(28, "No space left on device")
        if self.fail == "bug":
            raise TypeError("a bug")
        found = {"updates": self.updates, "lr": self.lr, "out_length": len(str(self.out))}
        return found | ({"quick": 1.0} if self.quick else {})


@pytest.fixture
def results(tmp_path):
    """Run the toy command and return what it wrote with --json."""

    def run(*argv):
        target = tmp_path / "deep" / "results.json"
        assert cli.run(Toy, "toy", [*argv, "--json", str(target)]) == 0
        return json.loads(target.read_text())

    return run


@pytest.fixture
def refused(capsys):
    """Run a command that must not be understood and return what it says."""

    def run(*argv):
        with pytest.raises(SystemExit) as status:
            cli.run(Toy, "toy", argv)
        assert status.value.code == 2
        return capsys.readouterr().err

    return run


@pytest.mark.parametrize(
    ("argv", "quick"), [((), 0), (("--quick",), 1), (("--quick", "true"), 1), (("--quick", "false"), 0)]
)
def test_a_flag_alone_says_yes(results, argv, quick):
    assert results("--out", "x", *argv).get("quick", 0) == quick


def test_help_lists_every_command(capsys):
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    for name in ("demo", "collect", "fit-tokenizer", "fit-dynamics", "evaluate", "record", "info"):
        assert f"  {name} " in text
    assert cli.main([]) == 2


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_a_script_with_a_main_and_help_for_every_option(name, capsys):
    with pytest.raises(SystemExit) as status:
        cli.main([name, "--help"])
    assert status.value.code == 0
    text = capsys.readouterr().out
    assert "--config" in text
    assert "--json" in text
    assert "--help" in text


def test_an_unknown_command_suggests_the_nearest(capsys):
    assert cli.main(["colect"]) == 2
    assert "unknown command 'colect'; did you mean 'collect'?" in capsys.readouterr().err
    assert cli.main(["xyz"]) == 2
    assert "expected one of demo, collect" in capsys.readouterr().err


def test_results_are_flat_numbers(results):
    assert results("--out", "abc") == {"updates": 10, "lr": 0.5, "out_length": 3}


def test_options_override_the_config_file_which_overrides_the_defaults(results, tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("updates: 20\nlr: 0.25\nout: abcde\n")
    assert results("--config", str(config)) == {"updates": 20, "lr": 0.25, "out_length": 5}
    assert results("--config", str(config), "--lr", "1e-3") == {"updates": 20, "lr": 1e-3, "out_length": 5}


def test_the_help_is_the_docstring_of_the_command(capsys):
    with pytest.raises(SystemExit):
        cli.run(Toy, "toy", ["--help"])
    text = capsys.readouterr().out
    assert "Pretend to work." in text
    assert "Attributes" not in text
    assert "How fast. (type: float, default: 0.5)" in text


def test_a_recipe_is_the_command_as_a_shipped_file_fills_it():
    trained = cli.recipe(TrainAgent, "train-agent", "sac.yaml")
    assert (trained.algorithm, trained.timesteps, trained.seed) == ("sac", 200_000, 0)
    assert trained.hyperparameters["buffer_size"] == 200_000
    assert trained.out is None  # still to be given


def test_a_misspelt_option_names_the_right_one(refused):
    message = refused("--out", "x", "--updats", "3")
    assert "--updats" in message
    assert "did you mean 'updates'" in message


def test_a_misspelt_key_in_a_config_names_the_right_one_and_the_file(refused, tmp_path):
    (tmp_path / "mine.yaml").write_text("updats: 3\nout: x\n")
    message = refused("--config", str(tmp_path / "mine.yaml"))
    assert f"did you mean 'updates' instead of 'updats' in {tmp_path / 'mine.yaml'}?" in message


def test_a_value_of_the_wrong_type_names_the_option_and_the_type(refused, tmp_path):
    message = refused("--out", "x", "--updates", "many")
    assert "updates" in message
    assert "int" in message
    (tmp_path / "mine.yaml").write_text("updates: many\nout: x\n")
    message = refused("--config", str(tmp_path / "mine.yaml"))
    assert "updates" in message
    assert "int" in message


def test_a_missing_config_file_or_required_option_is_named(refused):
    assert "nowhere.yaml" in refused("--config", "nowhere.yaml")
    assert "out" in refused()


@pytest.mark.parametrize(
    ("failure", "status", "message"),
    [
        ("value", 1, "cosmos-wm toy: no dataset at nowhere; run `cosmos-wm collect` first"),
        ("disk", 1, "No space left on device"),
        ("ctrl-c", 130, "interrupted; what was finished is kept"),
    ],
)
def test_a_foreseeable_failure_is_one_clear_line(capsys, failure, status, message):
    assert cli.run(Toy, "toy", ["--out", "x", "--fail", failure]) == status
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert len(error.strip().splitlines()) == 1


def test_a_bug_keeps_its_traceback():
    with pytest.raises(TypeError, match="a bug"):
        cli.run(Toy, "toy", ["--out", "x", "--fail", "bug"])


def test_results_that_cannot_be_written_are_an_error(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert cli.run(Toy, "toy", ["--out", "x", "--json", str(tmp_path / "file" / "r.json")]) == 1
    assert "cosmos-wm toy:" in capsys.readouterr().err


def test_a_terminal_without_unicode_gets_question_marks(bundle, dataset):
    script = [sys.executable, "-m", "cosmos_isaac_wm.train.evaluate"]
    command = [*script, f"--world_model={bundle}", f"--data={dataset.path}"]
    plain = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
    ended = subprocess.run([*command, "--device=cpu"], env=plain, capture_output=True, check=True)
    assert b"cube RMSE" in ended.stdout


@pytest.mark.parametrize("name", ["naïve データ", "with space"])
def test_paths_may_have_any_name(dataset, tmp_path, name):
    shutil.copytree(dataset.path, tmp_path / name)
    plain = {**os.environ, "LC_ALL": "C"}
    command = [sys.executable, "-m", "cosmos_isaac_wm.train.fit_tokenizer", f"--data={tmp_path / name}"]
    command += ["--tokenizer.widths=[16,16]", "--fit.updates=2", "--readout.updates=2", "--device=cpu"]
    subprocess.run([*command, f"--out={tmp_path / (name + ' seen')}"], env=plain, capture_output=True, check=True)
    assert (tmp_path / (name + " seen") / "perception.yaml").exists()


def test_a_bad_config_is_one_line_that_names_the_file(tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text("fit: {updates: many}\n")
    with pytest.raises(SystemExit):
        cli.main(["fit-dynamics", "--config", str(path), "--data", "x", "--out", "y"])
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "mine.yaml" in line
    assert "--help` explains" in line
