"""Does the campaign of worlds run each command once, go on after a failure, and add up what they gave?"""

import json
import subprocess
from types import SimpleNamespace

import pytest

from tests.campaigns import worlds


@pytest.fixture
def commands(monkeypatch):
    """The command lines that are run; instead of them figures are written. Those in `broken` fail."""
    said = SimpleNamespace(lines=[], broken=set())

    def instead(argv, cwd, stdout, stderr, check):
        name = argv[2].rpartition(".")[2]
        said.lines.append(argv[3:])
        if name in said.broken:
            return SimpleNamespace(returncode=1)
        returns = {
            f"{who}_{where}_return": 100.0 for who in ("agent/agent", "outside/agent") for where in ("dream", "real")
        }
        figures = {"transfer": {**returns, "agent/agent_real_return": 80.0, "random_real_return": 20.0}}
        (cwd / argv[-1]).write_text(json.dumps(figures.get(name, {f"of_{name}": 1.0})))
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", instead)
    return said


def test_every_command_is_run_once_with_the_seed_and_goes_on_where_it_was(commands, tmp_path):
    commands.broken.add("train_agent")
    with pytest.raises(RuntimeError, match=r"train_agent.* ended with 1; its words are in .*3-train-agent\.log"):
        worlds.run(worlds.WORLDS["pendulum"], 2, tmp_path, "pendulum")
    assert len(commands.lines) == 4
    commands.broken.clear()
    figures = worlds.run(worlds.WORLDS["pendulum"], 2, tmp_path, "pendulum")
    assert len(commands.lines) == 4 + 4
    assert all(line[line.index("--seed") + 1] == "2" for line in commands.lines)
    assert worlds.run(worlds.WORLDS["pendulum"], 2, tmp_path, "pendulum") == figures
    assert len(commands.lines) == 8
    told = worlds.shown(figures)
    assert (told["outside"], told["trained outside"], told["ratio"]) == (80.0, 100.0, 0.75)


@pytest.mark.parametrize("world", worlds.WORLDS)
def test_its_commands_are_commands_whose_inputs_are_made_before(world):
    made = set()
    for line in worlds.WORLDS[world].strip().splitlines():
        name, *options = line.split()
        given = dict(zip(options[::2], options[1::2], strict=True))
        wanted = [given.get(key, "") for key in ("--data", "--perception", "--init", "--world_model", "--policy")]
        for path in ",".join(wanted).replace("[", "").replace("]", "").split(","):
            assert not path or path.partition("/")[0] in made, line
        assert name in ("collect", "fit-tokenizer", "fit-dynamics", "train-agent", "evaluate", "transfer")
        made.add(given.get("--out", ""))
