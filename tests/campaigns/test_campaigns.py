"""Do the campaigns find nothing in their short form? A few kills, wrong inputs and a full disk."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from cosmos_isaac_wm.policies.transfer import BothWorlds, Played
from tests.campaigns import cases, disk, few_real, fuzz, kill
from tests.campaigns.runs import Runs

KILLED = {"import-isaac": 1}  # how often; each start costs seconds


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of all campaigns here, which share their inputs."""
    return tmp_path_factory.mktemp("campaigns")


def test_wrong_inputs_do_no_harm_and_are_named(folder: Path) -> None:
    numbers = range(60)
    changes = {change for _, _, change in cases.FIRST}
    assert {"environment_of_code", "billion_laughs", "fifo", "flip_bit"} <= changes
    results = fuzz.Campaign(folder, timeout=10).run(numbers)
    assert [result["number"] for result in results] == list(numbers)
    faults = [result for result in results if result["verdict"] in fuzz.FAULTS]
    assert not faults, fuzz.table(results)


@pytest.mark.parametrize("command", KILLED)
def test_a_killed_command_leaves_what_an_undisturbed_one_leaves(folder: Path, command: str) -> None:
    results = kill.run(Runs(folder), [command], kills=KILLED[command], seed=0)
    assert sum(len(result["moments"]) for result in results) >= KILLED[command]
    assert not [result for result in results if result["differences"] or result["orphans"]], kill.table(results)


def test_a_full_disk_is_named_and_what_was_finished_is_kept(folder: Path) -> None:
    if why := disk.cannot_mount(folder / "probe"):
        pytest.skip(why)
    results = disk.run(Runs(folder), [("import-isaac", 0.5)])
    assert not [result for result in results if result["faults"] or result["differences"]], disk.table(results)


def test_few_real_episodes_are_drawn_from_those_of_a_transfer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ppi_py")

    def played(successes: int) -> Played:
        return Played([place < successes for place in range(40)], [0.0] * 40, [0.1] * 40, [9] * 40)

    for number in range(11):
        row = BothWorlds(played(3 * number + 6), played(3 * number), clear=played(3 * number + 2))
        stored = {"policy": str(number), **dataclasses.asdict(row)}
        (tmp_path / f"episodes_{number}.json").write_text(json.dumps(stored))
    monkeypatch.setattr("sys.argv", ["few_real", str(tmp_path), "--draws", "3"])
    assert few_real.main() == 0
    told = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in told] == ["others known", "others as few", "prediction-powered"]
    assert all("of 33, " in line for line in told)
