"""README and docs: snippets run, commands are understood, links lead somewhere, the file map is true."""

import ast
import configparser
import importlib
import re
import shlex
from pathlib import Path

import pytest
from stable_baselines3 import PPO

from cosmos_isaac_wm.train import cli

ROOT = Path(__file__).parents[1]
PAGES = [path.relative_to(ROOT).as_posix() for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))]
SOURCES = ("cosmos_isaac_wm", "envs", "policies", "train")
OUTSIDE = ("ray", "sbatch", "srun", "helm", "kubectl")  # programs of clusters; what they start stands after ` -- `

LAUNCHERS = ("torchrun", "accelerate")  # of several processes of a command, which follows their own options


def text_of(page: str) -> str:
    return (ROOT / page).read_text()


def blocks(page: str, language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text_of(page), re.DOTALL | re.MULTILINE)
    return [block for own, block in fenced if own == language]


def snippets(page: str, isaac: bool) -> list[str]:
    return [block for block in blocks(page, "python") if ("isaaclab" in block) == isaac]


def run(page: str, isaac: bool, monkeypatch, tmp_path) -> None:
    """Run a page's snippets one after the other, as its reader does; training is cut short."""
    learn = PPO.learn
    monkeypatch.setattr(PPO, "learn", lambda self, total, **more: learn(self, min(total, self.n_steps), **more))
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in snippets(page, isaac):
        exec(compile(block, page, "exec"), names)


def pages_with_snippets(isaac: bool) -> list:
    """Pages whose snippets can run; those that draw with the real simulator need OpenGL."""
    return [
        pytest.param(page, marks=pytest.mark.opengl if "CosmosReal-v0" in "".join(snippets(page, isaac)) else ())
        for page in PAGES
        if snippets(page, isaac)
    ]


@pytest.mark.parametrize("page", pages_with_snippets(isaac=False))
def test_snippets_run(page, monkeypatch, tmp_path):
    run(page, False, monkeypatch, tmp_path)


@pytest.mark.isaac
@pytest.mark.parametrize("page", pages_with_snippets(isaac=True))
def test_snippets_run_in_isaac_lab(page, monkeypatch, tmp_path):
    pytest.importorskip("isaaclab_rl", reason="needs an Isaac Lab environment, see docs/isaac.md")
    run(page, True, monkeypatch, tmp_path)


def commands(page: str) -> list[list[str]]:
    """The words of every command in the page's shell blocks, without variables before them."""
    found = []
    for block in blocks(page, "bash"):
        lines = [shlex.split(line, comments=True) for line in logical_lines(block)]
        for line in lines:
            while line:
                end = line.index("&&") if "&&" in line else len(line)
                command = [word for word in line[:end] if not re.fullmatch(r"[A-Z_]+=\S*", word)]
                found.append(command)
                if command and command[0] in LAUNCHERS:
                    found.append(command[command.index("cosmos-wm") :])
                if command and command[0] in OUTSIDE and "--" in command:
                    found.append(command[command.index("--") + 1 :])
                line = line[end + 1 :]
    return [command for command in found if command]


def logical_lines(block: str) -> list[str]:
    """A block's lines, joined where a backslash or an open quote continues them."""
    lines, open_line = [], ""
    for line in block.splitlines():
        open_line += line
        if open_line.endswith("\\"):
            open_line = open_line[:-1]
        elif open_line.split(" #")[0].count("'") % 2 == 0:
            lines.append(open_line)
            open_line = ""
    assert not open_line
    return lines


def parsed(command, name, argv, defaults=None) -> int:
    cli.parser_for(command, name, defaults).parse_args(cli._expand(argv))
    return 0


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "bash")])
def test_shell_commands_are_understood(page, monkeypatch, capsys):
    monkeypatch.setattr(cli, "run", parsed)
    makefile, setup = (ROOT / "Makefile").read_text(), configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    for program, *arguments in commands(page):
        if program == "cosmos-wm":
            try:
                assert cli.main(arguments) == 0
            except SystemExit:
                pytest.fail(f"{program} {shlex.join(arguments)}: {capsys.readouterr().err}")
        elif program == "make":
            assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in arguments)
        elif program == "pip" and "-e" in arguments:
            assert "-c" not in arguments or (ROOT / arguments[arguments.index("-c") + 1]).is_file()
            extras = re.findall(r"\w+", arguments[arguments.index("-e") + 1])
            assert set(extras) <= set(setup["options.extras_require"])
        elif program == "python":
            assert arguments[0] == "-m"
            assert (ROOT / arguments[1].replace(".", "/")).with_suffix(".py").is_file()
        else:
            assert program in ("pip", "pytest", ".", *OUTSIDE, *LAUNCHERS), f"what is {program}?"


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_sentences_have_only_options_that_there_are(page, capsys, monkeypatch):
    for command in re.findall(r"`cosmos-wm ([a-z-]+)((?: [^`]*)?)`", text_of(page).replace("\n", " ")):
        name, rest = command
        assert name in cli.COMMANDS
        with pytest.raises(SystemExit):
            cli.main([name, "--help"])
        helped = capsys.readouterr().out.replace("-", "_")
        for option in re.findall(r"--([a-zA-Z_-]+)", rest):
            assert f"__{option.replace('-', '_')}" in helped, f"{name} has no --{option}"


def anchors(page: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        there = (ROOT / page).parent / path if path else ROOT / page
        assert there.exists(), target
        if anchor:
            assert anchor in anchors(there.resolve().relative_to(ROOT).as_posix()), target


def test_the_readme_is_a_front_door():
    lines = text_of("README.md").splitlines()
    assert len(lines) <= 150
    assert any(line.startswith("![") and ".gif)" in line for line in lines)


def test_every_folder_of_the_library_is_in_the_readme():
    files = next(block for block in blocks("README.md", "") if "cosmos_isaac_wm/" in block)
    for folder in (path for path in (ROOT / "cosmos_isaac_wm").iterdir() if (path / "__init__.py").is_file()):
        assert f"{folder.name}/" in files


def test_the_file_map_says_of_every_file_what_it_answers():
    listed = dict(re.findall(r"^\| `([\w/]+\.py)` \| (.+) \|$", text_of("docs/architecture.md"), re.MULTILINE))
    expected = {}
    for folder in SOURCES:
        for path in sorted((ROOT / folder).rglob("*.py")):
            docstring = ast.get_docstring(ast.parse(path.read_text()))
            if path.name != "__init__.py":
                expected[path.relative_to(ROOT).as_posix()] = docstring.splitlines()[0].replace("|", "\\|")
    assert listed == expected


def test_every_module_of_the_commands_is_a_command_or_serves_them():
    for name in cli.COMMANDS:
        assert importlib.import_module(f"cosmos_isaac_wm.train.{name.replace('-', '_')}")
