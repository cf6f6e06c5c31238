"""What does a wrong input do? A process that tries one after the other, watched for what it starts and where it writes.

It is told numbers on stdin, a JSON object each, and answers on a pipe, so that nothing that is printed disturbs.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.campaigns.cases import TARGETS, Case
from tests.campaigns.toys import without_bars

MEMORY = 4 * 2**30  # above what the process has when it begins
_STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "socket.connect")
_TOUCHES = ("os.remove", "os.rename", "os.rmdir", "shutil.rmtree", "os.symlink", "os.link", "os.truncate", "os.mkdir")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Watch:
    """Notes what the process starts, and what it writes outside of a folder; such things do not happen while it is on.

    Args:
        allowed: The folder.

    Attributes:
        on: Whether it notes.
        seen: What it has noted.
    """

    def __init__(self, allowed: Path):
        self._allowed, self.on, self.seen = str(allowed), False, list[str]()
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        calls = event == "pickle.find_class" and arguments[0] in ("os", "posix", "subprocess")
        if calls or event.startswith(_STARTS):
            self._refuse(f"executed {event} {arguments!r}"[:300])
        elif event == "open":
            path, mode, flags = arguments
            if isinstance(path, str | bytes) and (isinstance(flags, int) and flags & _WRITES):
                self._outside(f"{event} {mode}", path)
        elif event in _TOUCHES:
            places = [place for place in arguments if isinstance(place, int) and place >= 0 and event != "os.mkdir"]
            base = os.readlink(f"/proc/self/fd/{places[0]}") if places and event != "os.truncate" else ""
            for path in arguments[:2]:
                if isinstance(path, str | bytes | os.PathLike):
                    self._outside(event, os.path.join(base, os.fsdecode(path)))

    def _outside(self, event: str, path: str | bytes) -> None:
        whole = os.path.abspath(os.fsdecode(path))
        if not whole.startswith((self._allowed, "/dev/null")):
            self._refuse(f"escaped: {event} {whole}")

    def _refuse(self, what: str) -> None:
        self.seen.append(what)
        raise PermissionError(what)


class Trial:
    """Tries inputs.

    Args:
        inputs: The valid ones.
        scratch: Where wrong ones are made.
    """

    def __init__(self, inputs: Path, scratch: Path):
        self._inputs, self._scratch = inputs, scratch
        self._watch, self._known = Watch(scratch), dict[tuple[str, str], Mapping[str, str]]()

    def run(self, case: Case) -> dict[str, str]:
        """Verdict and detail of an input."""
        from tests.campaigns import targets

        try:
            known = self._valid(case)
        except BaseException:
            return {"verdict": "invalid", "detail": traceback.format_exc()}
        folder = self._scratch / "now" / TARGETS[case.target].base
        shutil.rmtree(folder.parent, ignore_errors=True)
        file = case.build(self._inputs, folder)
        self._watch.seen.clear()
        self._watch.on, began = True, time.perf_counter()
        try:
            read = targets.read(case.target, folder, file)
            verdict, detail = _read(case, known, read)
        except targets.CommandFailed as error:
            verdict, detail = _refused(error.status, error.said, file, folder)
        except BaseException as error:
            self._watch.on = False
            verdict, detail = _raised(error, file, folder)
        finally:
            self._watch.on = False
        if self._watch.seen:
            verdict, detail = "executed", "; ".join(self._watch.seen)
        shutil.rmtree(folder.parent, ignore_errors=True)
        seconds = f"{time.perf_counter() - began:.2f}"
        return {"verdict": verdict, "detail": detail.replace(str(folder), "FOLDER")[:2000], "seconds": seconds}

    def _valid(self, case: Case) -> Mapping[str, str]:
        """What is read from the valid input, which also imports and caches everything."""
        from tests.campaigns import targets

        key = case.target, case.file if case.target == "recipe" else ""
        if key not in self._known:
            folder = self._scratch / "valid" / TARGETS[case.target].base
            shutil.copytree(self._inputs / TARGETS[case.target].base, folder)
            self._known[key] = targets.read(case.target, folder, folder / case.file)
            shutil.rmtree(folder)
        return self._known[key]


def _read(case: Case, known: Mapping[str, str], read: Mapping[str, str]) -> tuple[str, str]:
    """Of an input that was accepted."""
    if other := [name for name in known if read.get(name) != known[name]]:
        return "silent", f"other {' and '.join(other)} than in the valid input"
    return "harmless", ""


def _refused(status: int, said: str, file: Path, folder: Path) -> tuple[str, str]:
    """Of an input that a command has refused."""
    lines = without_bars(said).splitlines()
    start = max((i for i, line in enumerate(lines) if line.startswith(("cosmos-wm ", "error: "))), default=0)
    text = "\n".join(lines[start:])
    if "allocate" in text and not _names(text, file, folder):
        return "memory", text
    if not _names(text, file, folder):
        return "unnamed", text
    return ("lines" if status == 1 and "\n" in text else "clear"), text


def _raised(error: BaseException, file: Path, folder: Path) -> tuple[str, str]:
    """Of an input at which something was raised."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, ValueError | OSError):
        return ("clear" if _names(str(error), file, folder) else "unnamed"), text
    if isinstance(error, MemoryError) or "allocate" in text:
        return "memory", text
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "campaigns" not in frame.filename and "site-packages" not in frame.filename]
    where = ours[-1] if ours else frames[-1]
    return "raw", f"{text} [{Path(where.filename).name}:{where.name}]"


def _names(text: str, file: Path, folder: Path) -> bool:
    return file.name in text or str(folder) in text


def main() -> None:
    """Answer until stdin ends."""
    answers, inputs, scratch = int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
    from tests.campaigns import targets  # noqa: F401  # before memory is limited

    trial = Trial(inputs, scratch)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY,) * 2)
    with os.fdopen(answers, "w") as pipe:
        print("{}", file=pipe, flush=True)
        for line in sys.stdin:
            print(json.dumps(trial.run(Case(**json.loads(line)))), file=pipe, flush=True)


if __name__ == "__main__":
    main()
