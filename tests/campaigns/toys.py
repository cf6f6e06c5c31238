"""What do campaigns run? Toy inputs that are made once, the commands on them, and how a command is started."""

from __future__ import annotations

import atexit
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PERCEPTION = ("--tokenizer.widths=[16,16]", "--tokenizer.blocks=1", "--fit.batch_size=8", "--fit.crop=32")
DYNAMICS = ("--dynamics.width=16", "--dynamics.blocks=1", "--fit.batch_size=4", "--fit.precision=fp32", "--contexts=6")
PPO = '{"n_steps": 16, "batch_size": 64, "n_epochs": 1}'
SAC = '{"learning_starts": 100, "train_freq": 8, "gradient_steps": 1, "buffer_size": 2000}'
_BAR = re.compile(r"[\w ]+:\s+\d+%\|[^\r\n]*?\[[^\]\r\n]*\]|\d+\w* \[[^\]\r\n]*/s[^\]\r\n]*\]")
_started: list[subprocess.Popen[bytes]] = []
_LONGEST_S = 600.0  # that a command may take; more is a hang


@dataclass(frozen=True)
class Toy:
    """A toy command.

    Attributes:
        command: Its name.
        options: Its arguments, from the folder of inputs and that of outputs; everything is written to the latter.
        prepare: What has to be in the folder of outputs beforehand.
    """

    command: str
    options: Callable[[Path, Path], Sequence[str]]
    prepare: Callable[[Path], object] = lambda out: None

    def argv(self, inputs: Path, out: Path) -> list[str]:
        """The whole command line."""
        given = [*self.options(inputs, out), f"--json={out / 'figures.json'}"]
        return [sys.executable, "-m", self.module, *given]

    @property
    def module(self) -> str:
        """Where the command is; as a script that can be interrupted before its imports are done."""
        return f"cosmos_isaac_wm.train.{self.command.replace('-', '_')}"


def _agent(algorithm: str, hyperparameters: str) -> Toy:
    """Training of an agent with three evaluations and as many checkpoints."""
    return Toy(
        "train-agent",
        lambda inputs, out: [
            *(f"--out={out / 'run'}", f"--world_model={inputs / 'bundle'}", f"--algorithm={algorithm}"),
            *("--timesteps=1200", "--n_envs=8", "--eval_every=400", "--eval_episodes=4", "--checkpoint_every=400"),
            *('--policy_kwargs={"net_arch": [16]}', f"--hyperparameters={hyperparameters}", "--despite_verdict"),
        ],
    )


def _planned(out: Path) -> None:
    """As many updates in every comparison: how many fit into a time differs from run to run."""
    folder = out / "results" / "dynamics_ckpts_resnet_rollout"
    folder.mkdir(parents=True)
    (folder / "plan.json").write_text(json.dumps({"updates": 24, "seconds_an_update": 0.01}, indent=2) + "\n")


TOYS = {
    "collect": Toy(
        "collect",
        lambda inputs, out: [
            *(f"--out={out / 'table'}", "--episodes=9", "--steps=16", "--size=32", "--workers=2", "--seed=3")
        ],
    ),
    "import-isaac": Toy(
        "import-isaac",
        lambda inputs, out: [
            *(f"--file={inputs / 'recording.hdf5'}", f"--out={out / 'imported'}"),
            *('--keys.poses={"cube": "states/cube/root_pose"}', '--hues={"cube": [345, 15]}'),
            "--workspace=[[-0.4, -0.4], [0.4, 0.4]]",
        ],
    ),
    "fit-tokenizer": Toy(
        "fit-tokenizer",
        lambda inputs, out: [
            *(f"--data={inputs / 'dataset'}", f"--out={out / 'perception'}", "--fit.updates=120"),
            *("--readout.updates=60", "--device=cpu", *PERCEPTION),
        ],
    ),
    "fit-dynamics": Toy(
        "fit-dynamics",
        lambda inputs, out: [
            *(f"--data={inputs / 'dataset'}", f"--perception={inputs / 'perception'}", f"--out={out / 'bundle'}"),
            *("--fit.updates=120", "--fit.validate_every=30", "--ship_episodes=1", "--device=cpu", *DYNAMICS),
        ],
    ),
    "train-agent-ppo": _agent("ppo", PPO),
    "train-agent-sac": _agent("sac", SAC),
    "transfer": Toy(
        "transfer",
        lambda inputs, out: [
            *(f"--out={out / 'transfer'}", f"--world_model={inputs / 'bundle'}", "--episodes=2"),
            f"--policies={json.dumps([str(inputs / 'agent'), 'random', 'scripted'])}",
        ],
    ),
    "improve": Toy(
        "improve",
        lambda inputs, out: [
            *(f"--data={inputs / 'dataset'}", f"--out={out / 'rounds'}", f"--world_model={inputs / 'bundle'}"),
            *("--rounds=1", "--episodes=4", "--updates=16", "--timesteps=256", "--measured=2", "--workers=1"),
            *("--despite_verdict", "--device=cpu"),
        ],
    ),
    "compare": Toy(
        "compare",
        lambda inputs, out: [
            *(f"--data={inputs / 'dataset'}", f"--perception={inputs / 'perception'}", f"--out={out / 'results'}"),
            *('--systems=["resnet_rollout"]', "--minutes_per_model=0.005", "--contexts=4", "--device=cpu"),
        ],
        _planned,
    ),
}


def chosen(names: str) -> list[str]:
    """Commands from a list with commas; "train-agent" means both algorithms.

    Raises:
        ValueError: If one is unknown.
    """
    found = [toy for name in names.split(",") for toy in TOYS if toy == name or toy.rpartition("-")[0] == name]
    if unknown := [name for name in names.split(",") if not any(toy.startswith(name) for toy in found)]:
        raise ValueError(f"unknown commands {unknown}; expected some of {[*TOYS]}")
    return list(dict.fromkeys(found))


def environment(scratch: Path, **more: str) -> dict[str, str]:
    """The environment of a command: one thread, quick checkpoints, temporary files in `scratch`."""
    scratch.mkdir(parents=True, exist_ok=True)
    own = {"OMP_NUM_THREADS": "1", "COSMOS_WM_CHECKPOINT_SECONDS": "0.5", "TMPDIR": str(scratch)}
    return {**os.environ, **own, "PYTHONPATH": os.environ.get("PYTHONPATH", ""), **more}


def start(argv: Sequence[str], log: Path, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a command in a process group of its own; what it says is appended to `log`."""
    with log.open("ab") as file:
        process = subprocess.Popen(
            argv,
            cwd=ROOT,
            env=dict(env),
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=file,
        )
    _started[:] = [each for each in _started if each.poll() is None] + [process]
    return process


def end_together() -> None:
    """Let what was started end with this process, also where that is terminated."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    atexit.register(_end)


def _end() -> None:
    for process in _started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def finish(argv: Sequence[str], log: Path, env: Mapping[str, str]) -> int:
    """Run a command to its end; its exit status, negative if a signal ended it."""
    return start(argv, log, env).wait(_LONGEST_S)


def last_words(log: Path, most: int = 2000) -> str:
    """The end of what a command said on stderr, without progress bars."""
    return without_bars(log.read_text(errors="replace")[-50_000:])[-most:] if log.exists() else ""


def without_bars(said: str) -> str:
    """What was said on stderr without progress bars, and without empty lines."""
    lines = _BAR.sub("", said.replace("\r", "\n")).splitlines()
    return "\n".join(line.rstrip() for line in lines if line.strip())


def make_inputs(folder: Path) -> Path:
    """Make the inputs in a process of their own, unless they are there.

    Raises:
        RuntimeError: If that fails.
    """
    folder = folder.resolve()
    if not (folder / ".ready").exists():
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / "making.log"
        status = finish(
            [sys.executable, "-m", "tests.campaigns.inputs", str(folder)], log, environment(folder / "scratch")
        )
        if status:
            raise RuntimeError(f"the toy inputs could not be made (exit status {status}):\n{last_words(log)}")
    return folder
