"""The house rules: files and functions that one can take in, each of which says what it answers."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("cosmos_isaac_wm", "envs", "policies", "train")
    for path in (ROOT / folder).rglob("*.py")
)
LONGEST_FILE, LONGEST_FUNCTION = 300, 50


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """From the first decorator to the last line, signature and docstring included."""
    first = min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])
    return function.end_lineno - first + 1


@pytest.mark.parametrize("name", FILES)
def test_a_file_and_its_functions_are_short(name):
    source = (ROOT / name).read_text()
    assert len(source.splitlines()) <= LONGEST_FILE
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    assert {node.name: lines_of(node) for node in functions if lines_of(node) > LONGEST_FUNCTION} == {}


@pytest.mark.parametrize("name", [name for name in FILES if not name.endswith("__init__.py")])
def test_a_file_begins_with_the_question_that_it_answers(name):
    docstring = ast.get_docstring(ast.parse((ROOT / name).read_text()))
    assert docstring
    assert "?" in docstring.splitlines()[0]


@pytest.mark.parametrize("name", FILES)
def test_what_an_object_offers_is_said_by_a_contract_and_not_guessed(name):
    calls = [node for node in ast.walk(ast.parse((ROOT / name).read_text())) if isinstance(node, ast.Call)]
    assert not [node.lineno for node in calls if ast.unparse(node.func) == "hasattr"]


@pytest.mark.parametrize("name", FILES)
def test_what_is_beneath_wrappers_is_not_taken_as_anything(name):
    for node in ast.walk(ast.parse((ROOT / name).read_text())):
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            assert (ast.unparse(node.annotation), ast.unparse(node.value)[-10:]) != ("Any", ".unwrapped")


def test_no_file_is_a_drawer_of_odds_and_ends():
    assert not {Path(name).stem for name in FILES} & {"base", "common", "helpers", "misc", "utils"}
