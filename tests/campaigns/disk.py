"""What does a command do on a full disk? It says so in one line and goes on when there is space again.

Every command runs in a small file system in memory (tmpfs, so this needs root) that holds 30 % and then 70 % of what it
writes. It has to end with exit status 1 and one line that names a file or its folder, says that the disk is full, and
that the same command goes on. Then there is more space, it runs again, and has to leave what an undisturbed run leaves.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from tqdm import tqdm

from tests.campaigns.runs import Runs
from tests.campaigns.same import differences
from tests.campaigns.toys import TOYS, chosen, end_together, environment, finish, last_words

SHARES = (0.3, 0.7)
_LARGE = "1g"
_PAGE = 4096
_FULL = ("no space left", "disk is full")


def cannot_mount(folder: Path) -> str:
    """Why no file system can be mounted here; "" if one can."""
    if os.geteuid() != 0:
        return "only root can mount a file system"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _mounted(folder, 2**20):
            return ""
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no file system can be mounted here: {error}"


@contextmanager
def _mounted(folder: Path, size: int) -> Iterator[None]:
    """A file system of so many bytes at a folder."""
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True, capture_output=True
    )
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)


def size_of(folder: Path) -> int:
    """Bytes that a folder takes in such a file system, in whole pages."""
    return sum(-(-path.stat().st_size // _PAGE) * _PAGE for path in folder.rglob("*") if path.is_file())


def trial(runs: Runs, name: str, share: float) -> dict[str, Any]:
    """Let a command meet a full disk, and go on; what it said, and what differs in the end.

    Args:
        runs: Where.
        name: Of the command.
        share: Of what it writes that has a place.
    """
    reference, _ = runs.reference(name)
    size = max(_PAGE, int(size_of(reference) * share))
    runs.begin(name)
    env = environment(runs.now / "scratch")
    with _mounted(runs.out, size):
        TOYS[name].prepare(runs.out)
        others = {*psutil.Process().children(recursive=True)}  # of whoever runs this, such as another test's cluster
        status = finish(runs.argv(name), runs.log, env)
        said = last_words(runs.log)
        faults = _wrong(status, said, runs.out) + _left_behind(others)
        subprocess.run(["mount", "-o", f"remount,size={_LARGE}", str(runs.out)], check=True)
        again = finish(runs.argv(name), runs.log, env)
        told = differences(reference, runs.out)
        if again and told:
            told.insert(0, f"exit status {again}")
        if faults or told:
            runs.keep(f"{name}-{share:g}")
    result = {"command": name, "share": share, "bytes": size, "status": status, "again": again, "faults": faults}
    return {**result, "differences": told, "stderr": said if faults else last_words(runs.log) if told else ""}


def _wrong(status: int, said: str, folder: Path) -> list[str]:
    """What is wrong with how a command has ended on a full disk."""
    if status == 0:
        return ["there was space enough"]  # which tests nothing: the command writes less than what it leaves
    if status < 0:
        return [f"ended by signal {-status}"]
    if "Traceback" in said:
        return [f"a traceback: {said.splitlines()[-1]}"]
    lines = said.splitlines()
    start = max((number for number, line in enumerate(lines) if line.startswith("cosmos-wm ")), default=None)
    if start is None:
        return ["no line of the command"]
    text = "\n".join(lines[start:])
    faults = [] if status == 1 else [f"exit status {status}"]
    faults += ["several lines"] if "\n" in text else []
    faults += [] if str(folder) in text else ["names no file or folder"]
    faults += [] if any(word in text.lower() for word in _FULL) else ["does not say that the disk is full"]
    return faults + ([] if "same command" in text else ["does not say that the same command goes on"])


def _left_behind(others: set[psutil.Process]) -> list[str]:
    """Processes that outlive their command, and were not there before."""
    alive = psutil.wait_procs({*psutil.Process().children(recursive=True)} - others, 5)[1]
    return [f"orphan: {' '.join(process.cmdline())[:100]}" for process in alive]


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """A line for each trial, and below it what was wrong."""
    lines = [f"{'command':<18}{'space':>8}{'status':>8}{'again':>8}  what it said; what it left"]
    for row in results:
        said, left = ", ".join(row["faults"]) or "clear", "; ".join(row["differences"][:2]) or "equal"
        lines.append(f"{row['command']:<18}{row['share']:>8.0%}{row['status']:>8}{row['again']:>8}  {said}; {left}")
        lines += [f"    {line}" for line in row["stderr"].splitlines()[-1:]]
    return "\n".join(lines)


def run(runs: Runs, pairs: Sequence[tuple[str, float]]) -> list[dict[str, Any]]:
    """Do the trials that are not in OUT/disk.jsonl yet; all of them."""
    record = runs.folder / "disk.jsonl"
    known = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
    results = {(row["command"], row["share"]): row for row in known}
    for pair in tqdm([pair for pair in pairs if pair not in results], desc="disk", unit="trial"):
        results[pair] = trial(runs, *pair)
        with record.open("a") as file:
            file.write(json.dumps(results[pair]) + "\n")
    return [results[pair] for pair in pairs]


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit status is 1 where something was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.disk", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--commands", default=",".join(TOYS), help=f"some of {', '.join(TOYS)}")
    parser.add_argument("--out", type=Path, default=Path("out/disk"), help="folder for everything")
    parser.add_argument("--json", type=Path, help="write all trials to this file")
    given = parser.parse_args(argv)
    end_together()
    if why := cannot_mount(given.out / "probe"):
        print(f"skipped: {why}", file=sys.stderr)
        return 0
    runs = Runs(given.out)
    pairs = [(name, share) for name in chosen(given.commands) for share in SHARES]
    results = run(runs, pairs)
    print(table(results))
    if given.json is not None:
        given.json.write_text(json.dumps(results, indent=1) + "\n")
    return int(any(row["faults"] or row["differences"] for row in results))


if __name__ == "__main__":
    sys.exit(main())
