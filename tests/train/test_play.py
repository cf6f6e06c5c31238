"""Is what cannot be played said in one line, before anything is loaded or written?"""

import importlib.util
import json
import socket

import pytest

from cosmos_isaac_wm.train import play
from cosmos_isaac_wm.train.play import main

pytest.importorskip("starlette", reason="the play extra is not installed: pip install 'cosmos-isaac-wm[play]'")


@pytest.fixture
def served(monkeypatch):
    """Ends a play where it would begin to serve."""
    asked = []
    monkeypatch.setattr("cosmos_isaac_wm.play.server.serve", lambda app, at: asked.append(at.getsockname()))
    return asked


def said(capsys):
    """The one line of an error."""
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_bundle_is_served_on_this_machine_alone(bundle, served, tmp_path, capsys):
    target = tmp_path / "numbers.json"
    assert main(["--world-model", str(bundle), "--port=0", f"--json={target}"]) == 0
    assert served[0][0] == "127.0.0.1"
    assert f"http://127.0.0.1:{served[0][1]}/" in capsys.readouterr().out
    assert json.loads(target.read_text()) == {"demonstrations": 0}


def test_who_listens_to_others_is_told_what_that_means(bundle, served, capsys):
    assert main(["--world-model", str(bundle), "--port=0", "--host=0.0.0.0"]) == 0
    assert "whoever reaches this address" in capsys.readouterr().err


def test_a_taken_port_is_an_error(bundle, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["--world-model", str(bundle), f"--port={taken.getsockname()[1]}"]) == 1
    assert "choose another --port" in said(capsys)


def test_a_missing_extra_is_named(monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(play, "find_spec", lambda name: None if name == "uvicorn" else find(name))
    assert main([]) == 1
    assert said(capsys) == 'cosmos-wm play: play needs uvicorn: pip install "cosmos-isaac-wm[play]"'


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--world-model=nowhere"], "no world model bundle 'nowhere'"),
        (["--policy=nobody"], "no agent 'nobody'"),
        (["--pictures=real"], "--out"),
        (["--max-steps=0"], "max_episode_steps must be at least 1"),
        (["--port=99999"], "from 0 to 65535"),
    ],
)
def test_what_cannot_be_is_an_error_of_one_line(bundle, arguments, words, capsys, served):
    named = any("world-model" in argument for argument in arguments)
    assert main([*([] if named else ["--world-model", str(bundle)]), "--port=0", *arguments]) == 1
    assert words in said(capsys)
    assert not served


def test_a_start_that_failed_binds_no_folder(bundle, served, tmp_path):
    out = tmp_path / "played"
    assert main(["--world-model", str(bundle), "--port=0", f"--out={out}", "--pictures=real"]) == 1  # without states
    assert main(["--world-model", str(bundle), "--port=0", f"--out={out}"]) == 0


def test_a_folder_of_something_else_is_an_error(bundle, dataset, capsys, served):
    assert main(["--world-model", str(bundle), "--port=0", f"--out={dataset.path}"]) == 1
    assert "not played there" in said(capsys)
