"""Does a killed command go on as if nothing had been? Kills commands at random moments and starts them again.

Every command runs once undisturbed; that is the reference. A trial starts the same command in an empty folder, kills it
several times with SIGKILL, starts it again each time, lets the last one end by itself, and compares all that it left.
Every second kill, by the toss of a coin, ends the main process only: its workers have to end by themselves. One kill of
seven falls into the start of Python; all other runs are forks of a server that has done the imports. Trials that are in
OUT/kill.jsonl are not done again; delete OUT after a change of the package.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import psutil
from tqdm import tqdm

from tests.campaigns.preloaded import Preloaded
from tests.campaigns.runs import Runs
from tests.campaigns.same import differences
from tests.campaigns.toys import TOYS, chosen, end_together, last_words

_MOST_KILLS = 4  # of a trial
_LONGEST_S = 600.0  # that a run may take without being killed
_ORPHANS_END_S = 5.0
_EARLY = 0.15  # of the kills are while Python and its libraries still start


def trial(runs: Runs, name: str, seed: int, most: int) -> dict[str, Any]:
    """Kill a command up to so many times, and compare what it has left in the end.

    Args:
        runs: Where.
        name: Of the command.
        seed: Of the moments.
        most: Kills.
    """
    folder, times = runs.reference(name)
    random, moments, orphans = Random(f"{name}, {seed}"), list[float](), list[str]()
    env = runs.begin(name)
    status = None
    for _ in range(random.randint(1, max(1, min(most, _MOST_KILLS)))):
        early = random.random() < _EARLY
        process = runs.start(name, env, preloaded=not early)
        moment = random.uniform(0, times.start if early else times.work)
        with suppress(subprocess.TimeoutExpired):
            status = process.wait(moment)
            break
        moments.append(round(moment, 3))
        orphans += kill(process, whole_group=random.random() < 0.5)
    else:
        status = _last(runs, name, env)
    told = differences(folder, runs.out)
    if told and status:
        told.insert(0, f"exit status {status}")
    result = {"command": name, "seed": seed, "moments": moments, "status": status, "differences": told}
    if told:
        runs.keep(f"{name}-{seed}")
    return {**result, "orphans": orphans, "stderr": last_words(runs.log) if told else ""}


def _last(runs: Runs, name: str, env: Mapping[str, str]) -> int:
    """Let it end by itself; a run that does not is ended, and has the status of that."""
    process = runs.start(name, env, preloaded=True)
    try:
        return process.wait(_LONGEST_S)
    except subprocess.TimeoutExpired:
        kill(process, whole_group=True)
        return -signal.SIGKILL


def kill(process: subprocess.Popen[bytes] | Preloaded, whole_group: bool) -> list[str]:
    """Kill a process, or its whole group; those of its children that are still there after five seconds.

    They are killed then, too.
    """
    try:
        children = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        children = []
    if whole_group:
        with suppress(ProcessLookupError):  # it may have none of its own yet
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(children, _ORPHANS_END_S)
    told = []
    for child in alive:
        with suppress(psutil.NoSuchProcess):
            told.append(" ".join(child.cmdline())[:200])
            child.kill()
    return told


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """What came of each command, and what differed."""
    lines = [f"{'command':<18}{'trials':>8}{'kills':>8}{'equal':>8}{'unequal':>8}{'orphans':>8}"]
    for name in dict.fromkeys(result["command"] for result in results):
        own = [result for result in results if result["command"] == name]
        unequal = sum(bool(result["differences"]) for result in own)
        kills, orphans = sum(len(result["moments"]) for result in own), sum(bool(result["orphans"]) for result in own)
        lines.append(f"{name:<18}{len(own):>8}{kills:>8}{len(own) - unequal:>8}{unequal:>8}{orphans:>8}")
    for result in results:
        if result["differences"]:
            first = "; ".join(result["differences"][:2])
            lines.append(f"\n{result['command']} seed {result['seed']} killed at {result['moments']} s: {first}")
            lines += [f"    {line}" for line in result["stderr"].splitlines()[-1:]]
    return "\n".join(lines)


def run(runs: Runs, commands: Sequence[str], kills: int, seed: int) -> list[dict[str, Any]]:
    """Do what is not done yet, until every command was killed as often as asked; all results.

    Args:
        runs: Where.
        commands: Which.
        kills: Of all commands together.
        seed: The first one of each command.
    """
    record = runs.folder / "kill.jsonl"
    known = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
    results = [result for result in known if result["command"] in commands]
    each = -(-kills // len(commands))
    numbers = dict.fromkeys(commands, seed)
    with tqdm(total=each * len(commands), desc="kill", unit="kill") as bar:
        while todo := {name: each - done for name in commands if (done := _kills(results, name)) < each}:
            bar.update(each * len(commands) - sum(todo.values()) - bar.n)
            for name, left in todo.items():  # in turns, so that a campaign that is cut short has tried them all
                while any(row["command"] == name and row["seed"] == numbers[name] for row in results):
                    numbers[name] += 1
                results.append(trial(runs, name, numbers[name], left))
                with record.open("a") as file:
                    file.write(json.dumps(results[-1]) + "\n")
            bar.set_postfix(unequal=sum(bool(row["differences"]) for row in results), refresh=False)
    return results


def _kills(results: Sequence[Mapping[str, Any]], name: str) -> int:
    return sum(len(row["moments"]) for row in results if row["command"] == name)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit status is 1 where something was unequal or left processes behind."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.kill", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--kills", type=int, default=1000, help="in all, in equal numbers per command (default 1000)")
    parser.add_argument("--seed", type=int, default=0, help="of the first trial; the next ones count up")
    parser.add_argument("--commands", default=",".join(TOYS), help=f"some of {', '.join(TOYS)}")
    parser.add_argument("--out", type=Path, default=Path("out/kill"), help="folder for everything")
    parser.add_argument("--json", type=Path, help="write all trials to this file")
    given = parser.parse_args(argv)
    end_together()
    results = run(Runs(given.out), chosen(given.commands), given.kills, given.seed)
    print(table(results))
    if given.json is not None:
        given.json.write_text(json.dumps(results, indent=1) + "\n")
    return int(any(result["differences"] or result["orphans"] for result in results))


if __name__ == "__main__":
    sys.exit(main())
