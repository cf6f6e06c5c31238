"""What do wrong inputs do? Changes valid ones in thousands of ways, feeds them to the package, and judges what happens.

Verdicts: "clear" (an error that names the file or its folder), "harmless" (accepted, and the arrays are what they
were). Faults: "raw" (another error), "unnamed" (an error that names no file), "lines" (one of several lines), "hang",
"memory", "executed" (something was started, or written elsewhere), "silent" (other arrays were accepted).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import select
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tests.campaigns.cases import Case, draw
from tests.campaigns.toys import ROOT, end_together, environment, finish, last_words, make_inputs

FAULTS = ("raw", "unnamed", "lines", "hang", "memory", "executed", "silent")
VERDICTS = ("clear", "harmless", *FAULTS)
_MOST = 500  # inputs of a worker: what leaks shall not fill the memory of later ones
_START_S = 120.0


class Worker:
    """A process that tries inputs, and is started again when it is gone.

    Args:
        inputs: The valid ones.
        scratch: A folder of its own.
        timeout: Seconds for an input.
    """

    def __init__(self, inputs: Path, scratch: Path, timeout: float):
        self._inputs, self._scratch, self._timeout = inputs, scratch, timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._answers, self._done = -1, 0

    def run(self, case: Case) -> dict[str, str]:
        """Verdict and detail of an input."""
        if self._process is None or self._done >= _MOST:
            self._start()
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asdict(case)).encode() + b"\n")
        self._process.stdin.flush()
        self._done += 1
        answer = self._answer(self._timeout)
        if answer is None:
            self.close()
            return {"verdict": "hang", "detail": f"no answer in {self._timeout:g} s"}
        if not answer:
            status = self._process.wait()
            self.close()
            return {"verdict": "memory", "detail": f"the process has ended with {status}: {self._said()}"}
        found: dict[str, str] = json.loads(answer)
        if found["verdict"] == "invalid":
            raise RuntimeError(f"the valid input of {case} is refused:\n{found['detail']}")
        return found

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            os.close(self._answers)
            self._process = None

    def _start(self) -> None:
        self.close()
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir(parents=True)
        self._answers, told = os.pipe()
        argv = [sys.executable, "-m", "tests.campaigns.worker", str(told), str(self._inputs), str(self._scratch)]
        with (self._scratch.with_suffix(".log")).open("wb") as log:
            self._process = subprocess.Popen(
                argv,
                cwd=ROOT,
                env=environment(self._scratch / "tmp"),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=[told],
            )
        os.close(told)
        self._done = 0
        if not self._answer(_START_S):
            raise RuntimeError(f"the worker does not start:\n{self._said()}")

    def _said(self) -> str:
        return last_words(self._scratch.with_suffix(".log"), 500)

    def _answer(self, seconds: float) -> bytes | None:
        """A line of the worker; nothing if it has ended, None if it says nothing in time."""
        line = b""
        while not line.endswith(b"\n"):
            if not select.select([self._answers], [], [], seconds)[0]:
                return None
            read = os.read(self._answers, 65536)
            if not read:
                return b""
            line += read
        return line


class Campaign:
    """Tries the inputs of a seed.

    Args:
        out: Folder of inputs, scratch and what was bad.
        seed: Of the inputs.
        timeout: Seconds for an input.
    """

    def __init__(self, out: Path, seed: int = 0, timeout: float = 20.0):
        self._out, self._seed, self._timeout = out.resolve(), seed, timeout
        self._inputs = _fuzzed(make_inputs(self._out / "inputs"))
        self._own, self._workers = threading.local(), list[Worker]()

    def run(self, numbers: Iterable[int], workers: int = 1) -> list[dict[str, Any]]:
        """Try inputs by number; what came of each, in order."""
        numbers = list(numbers)
        results: list[dict[str, Any]] = []
        with (
            ThreadPoolExecutor(workers) as pool,
            tqdm(total=len(numbers), desc="fuzz", unit="input", mininterval=2) as bar,
        ):
            futures = [pool.submit(self._try, number) for number in numbers]
            for future in as_completed(futures):
                results.append(future.result())
                bar.update()
                bar.set_postfix(faults=sum(result["verdict"] in FAULTS for result in results), refresh=False)
        for worker in self._workers:
            worker.close()
        self._workers.clear()
        self._own = threading.local()
        return sorted(results, key=lambda result: int(result["number"]))

    def _try(self, number: int) -> dict[str, Any]:
        if not hasattr(self._own, "worker"):
            scratch = self._out / "scratch" / str(threading.get_ident())
            self._own.worker = Worker(self._inputs, scratch, self._timeout)
            self._workers.append(self._own.worker)
        case = draw(self._inputs, self._seed, number)
        result = {**asdict(case), **self._own.worker.run(case)}
        if result["verdict"] in FAULTS:
            self._keep(case, result)
        return result

    def _keep(self, case: Case, result: Mapping[str, Any]) -> None:
        """Leave the wrong file, and how to try it again."""
        folder = self._out / "bad" / str(case.number)
        shutil.rmtree(folder, ignore_errors=True)
        file = case.build(self._inputs, folder / "input")
        for path in (folder / "input").rglob("*"):
            if path != file and file not in path.parents and (path.is_file() or path.is_symlink()):
                path.unlink()  # which are as in the valid input
        again = f"python -m tests.campaigns.fuzz --seed {case.seed} --out {self._out} --repeat {case.number}"
        (folder / "case.json").write_text(json.dumps({**result, "again": again}, indent=2) + "\n")


def _fuzzed(inputs: Path) -> Path:
    """The folder of targets, which is made in a process of its own unless it is there."""
    folder = inputs / "fuzzed"
    if not folder.is_dir():
        log = inputs / "fuzzed.log"
        code = "import sys; from pathlib import Path; from tests.campaigns.inputs import make_interrupted as make"
        code += "; make(Path(sys.argv[1]), Path(sys.argv[2])); Path(sys.argv[2]).rename(sys.argv[3])"
        making = inputs / "making"
        shutil.rmtree(making, ignore_errors=True)
        argv = [sys.executable, "-c", code, str(inputs), str(making), str(folder)]
        if status := finish(argv, log, environment(inputs / "scratch")):
            raise RuntimeError(f"the inputs could not be made (exit status {status}):\n{last_words(log)}")
    return folder


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """Verdicts by target, and the faults by their cause."""
    lines = [f"{'target':<12}" + "".join(f"{verdict:>10}" for verdict in VERDICTS)]
    for target in [*sorted({result["target"] for result in results}), "all"]:
        counts = Counter(result["verdict"] for result in results if target in ("all", result["target"]))
        lines += [f"{target:<12}" + "".join(f"{counts[verdict]:>10}" for verdict in VERDICTS)]
    causes: dict[str, list[Mapping[str, Any]]] = {}
    for result in results:
        if result["verdict"] in FAULTS:
            causes.setdefault(f"{result['verdict']}: {_alike(result['detail'])}", []).append(result)
    for cause, found in sorted(causes.items(), key=lambda item: -len(item[1])):
        example = found[0]
        where = f"{example['target']} {example['file']} {example['change']}"
        lines.append(f"\n{len(found)} x {cause}\n    e.g. {example['number']}: {where}")
    return "\n".join(lines)


def _alike(detail: str) -> str:
    """A detail without what differs from input to input."""
    return re.sub(r"\d+", "#", re.sub(r"'[^']*'|\"[^\"]*\"|\S*/\S*", "...", detail))[:110].replace("\n", " ")


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit status is 1 where there are faults."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.fuzz", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--inputs", type=int, default=10_000, help="how many wrong inputs (default 10000)")
    parser.add_argument("--first", type=int, default=0, help="number of the first one")
    parser.add_argument("--seed", type=int, default=0, help="the same seed makes the same inputs")
    parser.add_argument("--out", type=Path, default=Path("out/fuzz"), help="folder for inputs and bad ones")
    parser.add_argument("--json", type=Path, help="write all results to this file")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--timeout", type=float, default=20.0, help="seconds for an input; longer is a hang")
    parser.add_argument("--repeat", type=int, help="try only this number, and say what happened")
    given = parser.parse_args(argv)
    end_together()
    campaign = Campaign(given.out, given.seed, given.timeout)
    if given.repeat is not None:
        (result,) = campaign.run([given.repeat])
        print(json.dumps(result, indent=2))
        return int(result["verdict"] in FAULTS)
    results = campaign.run(range(given.first, given.first + given.inputs), given.workers)
    print(table(results))
    if given.json is not None:
        given.json.write_text(json.dumps(results, indent=1) + "\n")
    return int(any(result["verdict"] in FAULTS for result in results))


if __name__ == "__main__":
    sys.exit(main())
