"""Where do toy commands run, and what do they leave undisturbed? All in one folder, so that no path differs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.campaigns.preloaded import Preloaded
from tests.campaigns.toys import TOYS, environment, finish, last_words, make_inputs, start


@dataclass(frozen=True)
class Times:
    """How long a command takes.

    Attributes:
        start: Seconds until its libraries are imported.
        work: Seconds from then until it has ended.
    """

    start: float
    work: float


class Runs:
    """Runs commands one after the other.

    Args:
        folder: Of inputs and references; what runs writes to FOLDER/now/out.

    Attributes:
        now: The folder of the present run.
        out: What it writes to.
        log: What it says on stderr.
    """

    def __init__(self, folder: Path):
        self.folder = folder.resolve()
        self.now = self.folder / "now"
        self.out, self.log = self.now / "out", self.now / "stderr.log"
        self._inputs = make_inputs(self.folder / "inputs")

    def begin(self, name: str) -> dict[str, str]:
        """Empty the folder that runs write to; the environment of runs."""
        shutil.rmtree(self.now, ignore_errors=True)
        self.out.mkdir(parents=True)
        TOYS[name].prepare(self.out)
        return environment(self.now / "scratch")

    def argv(self, name: str) -> list[str]:
        """The command line of a toy command."""
        return TOYS[name].argv(self._inputs, self.out)

    def start(self, name: str, env: Mapping[str, str], preloaded: bool) -> subprocess.Popen[bytes] | Preloaded:
        """Start it after `begin`, by itself or with its imports done."""
        argv = self.argv(name)
        return Preloaded(TOYS[name].module, argv[3:], self.log, env) if preloaded else start(argv, self.log, env)

    def reference(self, name: str) -> tuple[Path, Times]:
        """The folder that an undisturbed run leaves, and how long it takes; made once.

        Raises:
            RuntimeError: If it fails.
        """
        folder, times = self.folder / "reference" / name, self.folder / "reference" / f"{name}.json"
        if not times.exists():
            imports = self._imports()
            env = self.begin(name)
            began = time.monotonic()
            status = finish(self.argv(name), self.log, env)
            whole = time.monotonic() - began
            if status:
                raise RuntimeError(f"{name} fails undisturbed (exit status {status}):\n{last_words(self.log)}")
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(self.out, folder)
            begin = min(imports, 0.9 * whole)
            times.write_text(json.dumps({"start": begin, "work": whole - begin}))
        return folder, Times(**json.loads(times.read_text()))

    def _imports(self) -> float:
        """Seconds until the libraries of most commands are imported; measured once."""
        file = self.folder / "reference" / "start.json"
        if not file.exists():
            began = time.monotonic()
            code = "import cosmos_isaac_wm.train.fit_dynamics"
            finish([sys.executable, "-c", code], self.log, environment(self.now / "scratch"))
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(time.monotonic() - began))
        return float(json.loads(file.read_text()))

    def keep(self, name: str) -> None:
        """Keep the present run under a name."""
        kept = self.folder / "unequal" / name
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(self.now, kept, symlinks=True)
