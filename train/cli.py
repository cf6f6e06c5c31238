"""What does `cosmos-wm` understand? Its commands, and what they share: YAML configs, typed overrides, `--json`.

A command is a frozen dataclass: its fields are the options, its docstring is the help, and its `run` does it.
"""

from __future__ import annotations

import difflib
import errno
import importlib
import io
import itertools
import json
import os
import re
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib.resources import files
from inspect import getdoc
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from jsonargparse import ArgumentParser, Namespace
from tqdm import tqdm

from cosmos_isaac_wm.storage.atomic import write_json
from cosmos_isaac_wm.storage.paths import expanded, user_path
from cosmos_isaac_wm.storage.structured import check_recipe
from cosmos_isaac_wm.telemetry import Package, track, tracking

COMMANDS = {
    "demo": "replay held-out episodes in the dream and show the report",
    "collect": "collect episodes from the real simulator",
    "import-isaac": "turn a recording of Isaac Lab's RecorderManager into a dataset",
    "import-lerobot": "turn a LeRobotDataset v3 into a dataset",
    "import-seed": "make a bundle of the report's checkpoint and a Cosmos tokenizer",
    "export-lerobot": "write a dataset as a LeRobotDataset v3",
    "fit-tokenizer": "train the embedded tokenizer and the readout on datasets",
    "fit-dynamics": "train or refresh the dynamics and write a world model bundle",
    "evaluate": "measure a bundle on held-out episodes",
    "record": "log the dreamed positions of one episode against its ground truth",
    "view": "look at a dataset, a bundle's dreams or a recording in Rerun",
    "play": "play the dream in the browser, live, and record demonstrations",
    "compare": "train the report's systems beside ours and judge them alike",
    "train-agent": "train a Stable-Baselines3 agent in the dream",
    "transfer": "play policies in the dream and in the real simulator, and compare",
    "improve": "collect with an agent, refresh the model, train again; in rounds",
    "benchmark": "measure the speed of the dream",
    "info": "show what a bundle contains",
    "push": "publish a bundle on the Hugging Face hub",
}

TRACKED = ("fit-tokenizer", "fit-dynamics", "evaluate", "train-agent")


class Command(Protocol):
    """What the dataclass of a command offers."""

    def run(self) -> dict[str, float]:
        """Do it; its figures, by name."""


AnyCommand = TypeVar("AnyCommand", bound=Command)


_BESIDE = ("config", "json", "track")  # options that are no fields of a command


class _Parser(ArgumentParser):
    """Says which key was meant when one is misspelt, and in which file."""

    # Of the whole program: options that are dataclasses have parsers of their own.
    _arguments: ClassVar[tuple[str, ...]] = ()
    _program: ClassVar[str] = "cosmos-wm"

    def parse_args(self, args: Sequence[str] | None = None, *more: Any, **options: Any) -> Namespace:  # type: ignore[override]
        _Parser._arguments, _Parser._program = tuple(args or ()), self.prog
        return super().parse_args(args, *more, **options)

    def error(self, message: str, ex: Exception | None = None) -> Any:  # type: ignore[override]
        known = sorted({*self.get_defaults(skip_validation=True).keys()} - {*_BESIDE})
        suggestions = [
            f"did you mean {near[0]!r} instead of {wrong!r}{self._file_with(wrong)}?"
            for wrong in re.findall(r"[\"'`]?(?:--)?([A-Za-z_][\w.]*)[\"'`]?", message)
            if wrong not in known and (near := difflib.get_close_matches(wrong, known, n=1, cutoff=0.75))
        ]
        said = " ".join("; ".join(dict.fromkeys([message, *suggestions])).split())
        self.exit(2, f"{self._program}: error: {said}{self.where} (`{self._program} --help` explains the options)\n")

    @property
    def where(self) -> str:
        """Where an option may have been given wrongly, for a message."""
        return "".join(f", in {file} or on the command line" for file in self._files)

    @property
    def _files(self) -> list[Path]:
        """The config files on the command line."""
        words = [*self._arguments, ""]
        given = [after for word, after in itertools.pairwise(words) if word == "--config"]
        given += [word.removeprefix("--config=") for word in words if word.startswith("--config=")]
        return [Path(file) for file in given if Path(file).is_file()]

    def _file_with(self, key: str) -> str:
        """Says which of the config files holds `key`, if one does."""
        return next((f" in {file}" for file in self._files if key in file.read_text("utf-8", "replace")), "")


def parser_for(command: type[Command], name: str, defaults: str | None = None) -> _Parser:
    """A parser whose options are the fields of `command`, and whose defaults may come from a shipped YAML."""
    parser = _Parser(
        prog=f"cosmos-wm {name}",
        description=(getdoc(command) or "").split("\n\n")[0],
        default_config_files=[str(_shipped(defaults))] if defaults else [],
    )
    parser.add_argument("--config", action="config", help="YAML file with any of the options below, or a shipped one")
    parser.add_argument("--json", type=str | None, default=None, help="write the results to this file as flat JSON")
    if name in TRACKED:
        told = "hand figures to trackio or Weights & Biases as well; alone: to the one that is installed"
        option = parser.add_argument("--track", type=Package | None, default=None, help=told)
        option.nargs, option.const = "?", "auto"
    parser.add_class_arguments(command, as_group=False, sub_configs=False)
    for action in parser._actions:
        if getattr(action, "_typehint", None) is bool:  # `--flag` alone says yes
            action.nargs, action.const = "?", True
    return parser


def recipe(command: type[AnyCommand], name: str, config: str) -> AnyCommand:
    """The command as a shipped YAML file fills it.

    What has to be given, such as an output folder, is None until `dataclasses.replace` gives it.
    """
    parser = parser_for(command, name, config)
    return _made(command, parser, parser.get_defaults())


def _made(command: type[AnyCommand], parser: ArgumentParser, arguments: Namespace) -> AnyCommand:
    """The command of parsed arguments."""
    options = parser.instantiate(arguments).as_dict()
    return command(**{key: _meant(value) for key, value in options.items() if key not in _BESIDE})


def _meant(value: Any) -> Any:
    """An option with `~` and environment variables in its paths replaced, on the command line and in YAML alike."""
    if isinstance(value, Path):
        return user_path(value)
    if isinstance(value, str):
        return expanded(value)
    if isinstance(value, list | tuple):
        return type(value)(_meant(item) for item in value)
    return {key: _meant(item) for key, item in value.items()} if isinstance(value, dict) else value


def _shipped(name: str) -> Path:
    """The path of a YAML file in the package's configs."""
    return Path(str(files("cosmos_isaac_wm.configs").joinpath(name)))


def _expand(argv: Sequence[str]) -> list[str]:
    """Let `--world-model` mean `--world_model`, and `--config seed.yaml` the shipped file where there is no other."""
    words = list(argv)
    for index, argument in enumerate(words):
        option, equals, value = argument.partition("=")
        if option.startswith("--"):
            words[index] = f"--{option[2:].replace('-', '_')}{equals}{value}"
        value = value if equals else next(iter(words[index + 1 :]), "")
        if option != "--config" or not value:
            continue
        meant = user_path(value)
        if not meant.exists() and _shipped(value).is_file():
            meant = _shipped(value)
        if meant.exists():
            check_recipe(meant)
        words[index if equals else index + 1] = f"--config={meant}" if equals else str(meant)
    return words


def run(command: type[Command], name: str, argv: Sequence[str] | None, defaults: str | None = None) -> int:
    """Parse, run, write the results; a foreseeable error is one clear line and exit status 1, Ctrl-C is 130.

    Args:
        command: The command.
        name: What it is called.
        argv: Its arguments, or None for the process's own.
        defaults: Name of a shipped YAML file that fills the defaults.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without "≤" shows "?"
    parser = parser_for(command, name, defaults)
    try:
        words = _expand(sys.argv[1:] if argv is None else argv)
    except ValueError as error:
        parser.error(str(error))
    arguments: Namespace = parser.parse_args(words)
    try:
        made = _made(command, parser, arguments)
    except (TypeError, KeyError, AttributeError) as error:  # from within jsonargparse
        parser.error(f"the options do not fit together: {error}")
    except ValueError as error:
        print(f"cosmos-wm {name}: {_in_words(error)}{parser.where}", file=sys.stderr)
        return 1
    try:
        with _tracked(name, arguments):
            results = made.run()
            track({f"result/{key}": value for key, value in results.items()})
        if arguments.json is not None and os.environ.get("RANK", "0") == "0":  # of several processes the main one
            write_json(arguments.json, results)
    except KeyboardInterrupt:
        print("\ninterrupted; what was finished is kept, run the same command to go on", file=sys.stderr)
        return 130
    except (ValueError, OSError, RuntimeError, MemoryError, ImportError) as error:
        if os.environ.get("COSMOS_WM_TRACEBACK"):
            raise
        tqdm.write(f"cosmos-wm {name}: {_in_words(error)}", file=sys.stderr)  # clear of any bar
        return 1
    return 0


def _tracked(name: str, arguments: Namespace) -> AbstractContextManager[None]:
    """Where figures go on the way, if that was asked for."""
    options = {key: value for key, value in arguments.as_dict().items() if key not in _BESIDE}
    if (package := arguments.as_dict().get("track")) is None:
        return nullcontext()
    plain = json.loads(json.dumps(options, default=str))
    return tracking(package, name, plain, user_path(options["out"]) if options.get("out") else None)


def _in_words(error: Exception) -> str:
    """An error in one line; a full disk's says what to do, wherever it was met."""
    own = isinstance(error, OSError) and error.filename is None and error.strerror
    said = " ".join(str(own or error).split()) or type(error).__name__
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT) and "the disk is full" not in said:
        return f"the disk is full ({said}): make room and run the same command again, it goes on from what is finished"
    return said


def going_on(where: str) -> None:
    """Say from where a command goes on that was interrupted, or that it was finished before."""
    print(f"going on from {where}", file=sys.stderr, flush=True)


def first_as(options: str | Sequence[str], argv: Sequence[str] | None) -> list[str]:
    """Arguments, of which the first, or the first few, may stand without their options."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    named: list[str] = []
    for option in [options] if isinstance(options, str) else options:
        if arguments and not arguments[0].startswith("-"):
            named += [option, arguments.pop(0)]
    return named + arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Dispatch `cosmos-wm COMMAND ...` to the script of that name in `train/`."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        width = max(map(len, COMMANDS))
        lines = [f"  {name:<{width}}  {what}" for name, what in COMMANDS.items()]
        print("usage: cosmos-wm COMMAND [--help] ...\n\n" + "\n".join(lines))
        return 0 if arguments else 2
    name, *rest = arguments
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; expected one of {', '.join(COMMANDS)}"
        print(f"cosmos-wm: unknown command {name!r}{hint}", file=sys.stderr)
        return 2
    module = importlib.import_module(f"cosmos_isaac_wm.train.{name.replace('-', '_')}")
    return int(module.main(rest))
