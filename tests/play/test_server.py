"""Who may see and drive a dream that is served? Its own pages; the first of them drives, others watch."""

import io
import json
import time

import imageio.v3 as iio
import numpy as np
import pytest

pytest.importorskip("starlette", reason="the play extra is not installed: pip install 'cosmos-isaac-wm[play]'")
pytest.importorskip("httpx2", reason="Starlette's test client needs httpx2")

from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from cosmos_isaac_wm.data import EpisodeDataset
from cosmos_isaac_wm.play.demonstrations import Demonstrations
from cosmos_isaac_wm.play.server import application, listening, serve
from cosmos_isaac_wm.play.session import Options, Session, source_of
from cosmos_isaac_wm.play.stage import Stage, own_speed
from cosmos_isaac_wm.play.visitor import Visitor

HOST = "127.0.0.1:8642"
OWN = {"origin": f"http://{HOST}", "host": HOST}


@pytest.fixture
def stage(model, tmp_path):
    """Of a toy bundle with a policy, whose demonstrations go to `played`."""
    with Demonstrations(tmp_path / "played", source_of(model, "dream")) as held:
        yield Stage(lambda: Session(model, Options(policy="scripted"), held))


@pytest.fixture
def client(stage):
    with TestClient(application(stage), base_url=f"http://{HOST}") as client:
        yield client


def enter(client, **headers):
    return client.websocket_connect("/live", headers=OWN | headers)


def heard(line, kind, until=lambda message: True):
    """The next JSON message of a kind; pictures are passed over."""
    for _ in range(300):
        message = line.receive()
        if "text" in message and message["text"] is not None:
            told = json.loads(message["text"])
            if told["type"] == kind and until(told):
                return told
    raise AssertionError(f"no {kind}")


def do(line, what, **more):
    line.send_json({"do": what, **more})


def test_the_page_is_small_and_asks_nobody_else(client):
    total = 0
    for path, kind in (("/", "text/html"), ("/play.css", "text/css"), ("/play.js", "text/javascript")):
        reply = client.get(path)
        assert reply.status_code == 200
        assert reply.headers["content-type"].startswith(kind)
        assert "default-src 'none'" in reply.headers["content-security-policy"]
        assert "://" not in reply.text.replace("${", "").replace("}://", "")
        total += len(reply.content)
    assert total + len(client.get("/controls.js").content) < 300_000
    assert client.get("/../setup.cfg").status_code == 404


def test_a_visitor_is_told_what_there_is_and_shown_a_picture(client):
    with enter(client) as line:
        scene = heard(line, "scene")
        assert (scene["scene"], scene["width"], scene["limit"]) == ("toy", 32, 12)
        state = heard(line, "state")
        assert state["drives"]
        assert (state["step"], state["running"]) == (0, False)
        picture = line.receive_bytes()
        assert picture[0] == 0
        assert iio.imread(io.BytesIO(picture[1:]), extension=".jpg").shape == (32, 32, 3)


def test_the_first_drives_and_the_second_watches_until_the_first_has_gone(client):
    with enter(client) as first:
        assert heard(first, "state")["drives"]
        with enter(client) as second:
            state = heard(second, "state")
            assert not state["drives"]
            assert state["visitors"] == 2
            do(second, "step")
            assert "you watch" in heard(second, "error")["text"]
            do(first, "step")
            assert heard(second, "state", lambda told: told["step"] == 1)
            first.close()
            assert heard(second, "state", lambda told: told["drives"])["visitors"] == 1
            do(second, "step")
            assert heard(second, "state", lambda told: told["step"] == 2)


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "http://evil.example:8642", "host": "evil.example:8642"},  # a name that was rebound
        {"origin": "http://127.0.0.1:9999"},  # another server of this machine
        {"origin": "null"},
        {"origin": f"http://{HOST}.evil.example"},
        {"host": "evil.example"},
        {"host": "127.0.0.1:x"},
    ],
)
def test_pages_of_others_are_refused(client, headers):
    with pytest.raises(WebSocketDisconnect), enter(client, **headers):
        pass


def test_who_does_not_say_where_it_comes_from_is_refused(client):
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/live", headers={"host": HOST}):
        pass


def test_a_rebound_name_is_not_even_given_the_page(client):
    reply = client.get("/", headers={"host": "evil.example:8642"})
    assert reply.status_code == 421
    assert "html" not in reply.headers["content-type"]


@pytest.mark.parametrize("host", ["localhost:8642", "127.0.0.1:1", "[::1]:8642", "10.0.0.7"])
def test_addresses_and_localhost_are_ours(client, host):
    with enter(client, host=host, origin=f"http://{host}") as line:
        assert heard(line, "state")["drives"]


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("no JSON", "expected a message"),
        ("[" * 2000, "expected a message"),
        ("[]", "expected a message"),
        ('{"do": 3}', "expected a message"),
        ('{"do": "sing"}', "'sing'"),
        ('{"do": "act", "action": [5, 0], "number": 1}', "deflections in"),
        ('{"do": "act", "action": [1, 0], "number": -1}', "number must be a whole number"),
        ('{"do": "rewind", "steps": "all"}', "steps must be a whole number"),
        ('{"do": "speed", "times": 1000}', "speeds are"),
        ('{"do": "reset", "seed": 1.5}', "seed must be"),
        ('{"do": "real", "on": true}', "cannot start alike"),
    ],
)
def test_what_makes_no_sense_is_answered_and_ends_nothing(client, message, said):
    with enter(client) as line:
        line.send_text(message)
        assert said in heard(line, "error")["text"]
        do(line, "step")
        assert heard(line, "state", lambda told: told["step"] == 1)


def test_a_policy_that_fails_in_any_way_stops_the_dream_and_not_its_clock(client, stage, capfd):
    stage.session._policy = lambda observation: 1 / 0
    with enter(client) as line:
        do(line, "wheel", on=True)
        do(line, "run", on=True)
        assert "ZeroDivisionError" in heard(line, "error")["text"]
        assert not heard(line, "state", lambda told: told["wheel"] and not told["running"])["step"]
        do(line, "wheel", on=False)
        do(line, "step")
        assert heard(line, "state", lambda told: told["step"] == 1)
    assert "Traceback" in capfd.readouterr().err


def test_an_action_whose_number_makes_no_sense_is_not_done(client):
    with enter(client) as line:
        do(line, "act", action=[1, 0], number=-1)
        do(line, "step")
        assert heard(line, "state", lambda told: told["step"] == 1)["action"] == [0, 0]


def test_more_than_can_be_done_is_refused_and_nobody_waits(stage):
    said, visitor = [], Visitor(None)
    visitor.say = said.append
    stage.visitors.enter(visitor)
    for _ in range(300):
        stage.hear(visitor, {"do": "step"})
    assert len(said) == 300 - 256
    assert "too much" in said[0]["text"]


def test_who_could_not_be_let_in_is_not_left_at_the_wheel(client, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr("cosmos_isaac_wm.play.stage.scene_of", lambda session: 1 / 0)
        with pytest.raises(ZeroDivisionError), enter(client) as line:
            line.receive()
    with enter(client) as line:
        state = heard(line, "state")
        assert (state["drives"], state["visitors"]) == (True, 1)


def test_it_runs_by_its_clock_and_an_action_is_in_the_next_pictures(client):
    with enter(client) as line:
        do(line, "speed", times=4.0)
        do(line, "run", on=True)
        do(line, "act", action=[1, 0], number=7)
        state = heard(line, "state", lambda told: told["acted"] == 7)
        assert state["action"] == [1.0, 0.0]
        begun, first = time.perf_counter(), state["step"]
        last = heard(line, "state", lambda told: told["step"] >= first + 6)["step"]
        assert (last - first) / (time.perf_counter() - begun) < 60  # 40 are asked for
        do(line, "run", on=False)
        stopped = heard(line, "state", lambda told: not told["running"])["step"]
        do(line, "rewind", steps=2)
        assert heard(line, "state", lambda told: told["step"] == stopped - 2)


def test_the_policy_drives_until_the_visitor_acts(client):
    with enter(client) as line:
        do(line, "wheel", on=True)
        assert heard(line, "state", lambda told: told["wheel"])
        do(line, "act", action=[0, 0], number=1)  # a key that was let go
        do(line, "step")
        assert heard(line, "state", lambda told: told["acted"] == 1)["wheel"]
        do(line, "act", action=[0, 1], number=2)
        heard(line, "state", lambda told: not told["wheel"])


def test_a_recording_becomes_a_dataset(model, tmp_path):
    with Demonstrations(tmp_path / "played", source_of(model, "dream")) as held:
        stage = Stage(lambda: Session(model, None, held))
        with TestClient(application(stage), base_url=f"http://{HOST}") as client, enter(client) as line:
            do(line, "record", on=True)
            do(line, "speed", times=4.0)
            do(line, "act", action=[0, 1], number=1)
            assert heard(line, "kept")["number"] == 1  # the toy's episodes have twelve steps
            assert heard(line, "state", lambda told: told["ended"])["recorded"] == 1
    episode = EpisodeDataset(tmp_path / "played")[0]
    assert len(episode) <= 12
    np.testing.assert_equal(episode.actions[-1], np.array([0, 1], np.float32))


def test_a_recording_whose_driver_has_gone_stands_and_is_kept_when_the_play_ends(stage, tmp_path):
    with TestClient(application(stage), base_url=f"http://{HOST}") as client:
        with enter(client) as line:
            do(line, "record", on=True)
            do(line, "speed", times=4.0)
            heard(line, "state", lambda told: told["step"] >= 5)
        with enter(client) as line:
            state = heard(line, "state", lambda told: told["drives"] and not told["running"])
            assert (state["recording"], state["recorded"]) == (True, 0)
    (file,) = (tmp_path / "played" / "demonstrations").iterdir()
    assert file.name.startswith("episode_000000")


def test_who_is_silent_for_long_is_taken_to_have_gone(stage, monkeypatch):
    asked = []

    class Server:
        def __init__(self, config):
            asked.append((config.ws_ping_interval, config.ws_ping_timeout))

        def run(self, sockets):
            pass

    monkeypatch.setattr("uvicorn.Server", Server)
    serve(application(stage), None)
    assert asked == [(5, 5)]


def test_a_session_that_cannot_be_opened_or_shown_is_an_error_before_anything_is_served(model, monkeypatch):
    with pytest.raises(ValueError, match="no-policy"):
        Stage(lambda: Session(model, Options(policy="no-policy")))
    monkeypatch.setattr(Session, "pictures", lambda session: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        Stage(lambda: Session(model))


def test_a_port_that_is_taken_is_named():
    with (
        listening("127.0.0.1", 0) as taken,
        pytest.raises(OSError, match=rf"port {taken.getsockname()[1]}.*--port"),
    ):
        listening("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(ValueError, match="from 0 to 65535"):
        listening("127.0.0.1", 70_000)
    with pytest.raises(OSError, match="cannot listen at 203"):  # of nobody
        listening("203.0.113.9", 0)


@pytest.mark.parametrize(("rate", "speed"), [(10, 2), (30, 1), (5, 4), (1, 4), (20, 1)])
def test_a_dream_is_fluent_unless_it_is_slowed_down(rate, speed):
    assert own_speed(rate) == speed
