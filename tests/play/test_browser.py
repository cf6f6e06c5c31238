"""Does the page work in a real browser? Chromium loads it, drives the cube, records, and looks right in two sizes."""

import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from cosmos_isaac_wm.data import EpisodeDataset
from cosmos_isaac_wm.policies.scripted import GoalPusher

pytest.importorskip("starlette", reason="the play extra is not installed: pip install 'cosmos-isaac-wm[play]'")
sync_api = pytest.importorskip(
    "playwright.sync_api", reason="Playwright is not installed: pip install 'cosmos-isaac-wm[browser]'"
)

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; `apt-get install chromium`")
SIZES = {"phone": (390, 844), "desktop": (1280, 800)}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The shipped bundle as a user plays it: the address of the page, the folder of recordings, and the process."""
    out = tmp_path_factory.mktemp("play") / "played"
    command = [sys.executable, "-m", "cosmos_isaac_wm.train.play", f"--out={out}", "--port=0", "--max-steps=400"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    yield line.split()[2], out, process
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def chromium():
    with sync_api.sync_playwright() as playwright:
        # Without its sandbox it runs in containers; it sees no page but ours.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


class Player:
    """A page, what it was told, and whom it asked."""

    def __init__(self, browser, url, size="desktop"):
        width, height = SIZES[size]
        self.context = browser.new_context(viewport={"width": width, "height": height}, has_touch=size == "phone")
        self.page = self.context.new_page()
        self.states, self.faults, self.asked = [], [], set()
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", lambda said: self.faults.append(said.text) if said.type == "error" else None)
        self.page.on("request", lambda request: self.asked.add(request.url.removeprefix(url)))
        self.page.on("websocket", lambda line: line.on("framereceived", self.hear))
        self.page.goto(url)
        self.until(lambda state: True)

    def start_anew(self):
        """A new dream, which stands at its start."""
        if self.state["running"]:
            self.page.keyboard.press("Space")
        old = self.state["goal"]  # the dream before it may stand at its start as well
        self.page.keyboard.press("r")
        return self.until(lambda state: state["step"] == 0 and not state["running"] and state["goal"] != old)

    def hear(self, message):
        if isinstance(message, str) and (told := json.loads(message))["type"] == "state":
            self.states.append(told)

    @property
    def state(self):
        return self.states[-1]

    def until(self, holds, seconds=20):
        end = time.monotonic() + seconds
        while not (self.states and holds(self.state)):
            assert time.monotonic() < end, self.states[-1:]
            self.page.wait_for_timeout(20)
        return self.state

    def picture(self):
        """What the canvas shows, (H, W, 3)."""
        code = "id => [...document.getElementById(id).getContext('2d').getImageData(0, 0, 128, 128).data]"
        return np.array(self.page.evaluate(code, "dream")).reshape(128, 128, 4)[..., :3]


@pytest.fixture
def visit(chromium, served):
    """Opens pages, which are closed at the end, whatever happens; none may have complained."""
    players = []

    def open_page(size="desktop"):
        players.append(Player(chromium, served[0], size))
        return players[-1]

    yield open_page
    for player in players:
        player.context.close()
    assert [player.faults for player in players] == [[]] * len(players)


@pytest.fixture
def player(visit):
    return visit()


def moved(now, begun):
    """Metres that the cube is from where it was."""
    return np.linalg.norm(np.subtract(now["object"], begun["object"]))


def test_keys_push_the_cube(player):
    page, held = player.page, set()
    begun = player.start_anew()
    before = player.picture()
    end = time.monotonic() + 20
    while moved(player.state, begun) < 0.05 and time.monotonic() < end:
        now = player.state
        places = (np.array(now[name]) for name in ("object", "agent", "goal"))
        right, away = GoalPusher._act(*places)
        wanted = {"ArrowRight"} if right > 0.2 else {"ArrowLeft"} if right < -0.2 else set()
        wanted |= {"ArrowUp"} if away > 0.2 else {"ArrowDown"} if away < -0.2 else set()
        for key in held - wanted:
            page.keyboard.up(key)
        for key in wanted - held:
            page.keyboard.down(key)
        held = wanted
        page.wait_for_timeout(30)
    for key in held:
        page.keyboard.up(key)
    assert moved(player.state, begun) >= 0.05
    player.until(lambda state: np.abs(player.picture() - before).max() > 80)
    assert player.asked <= {"", "play.css", "play.js", "controls.js", "data:,"}


def test_time_stands_goes_step_by_step_and_back(player):
    page = player.page
    player.start_anew()
    page.keyboard.press("Space")
    player.until(lambda state: state["step"] > 5)
    page.keyboard.press("Space")
    stood = player.until(lambda state: not state["running"])["step"]
    page.keyboard.press(".")
    player.until(lambda state: state["step"] == stood + 1)
    page.click("#back")
    player.until(lambda state: state["step"] == max(0, stood - 9))
    assert page.evaluate("document.activeElement.id") == ""  # keys are the dream's again
    page.focus("#once")
    page.keyboard.press("Enter")
    player.until(lambda state: state["step"] == max(0, stood - 9) + 1)
    assert page.evaluate("document.activeElement.id") == "once"  # where whoever has no mouse was
    page.evaluate("document.activeElement.blur()")
    page.click("#speeds button[data-times='0.25']")
    player.until(lambda state: state["speed"] == 0.25)
    page.click("#speeds button[data-times='2']")
    player.until(lambda state: state["speed"] == 2)


def test_a_drag_on_the_picture_drives_and_takes_the_wheel_from_the_policy(player):
    page = player.page
    player.start_anew()
    page.click("#overlay-go")
    page.keyboard.press("p")
    player.until(lambda state: state["wheel"] and state["running"])
    box = page.locator("#dream").bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 100, middle[1])
    state = player.until(lambda state: state["action"] == [1.0, 0.0])
    page.mouse.up()
    assert not state["wheel"]
    player.until(lambda state: state["action"] == [0.0, 0.0])


ASKED = """async ([described, code]) => {
  const { Controls } = await import("/controls.js"), asked = [];
  let ready = true;
  const controls = new Controls(described, (action) => asked.push(action), () => ready);
  const press = (key, shiftKey = false) => controls.press({ code: key, shiftKey, timeStamp: 0 });
  if (code === "slide") {
    const slider = document.querySelectorAll("#sliders input")[1];
    const slide = (value) => { slider.value = value; slider.dispatchEvent(new Event("input")); };
    ready = false; // nobody has answered yet
    slide(0.5);
    slide(0.7);
    ready = true;
    slide(-0.5);
    press("ArrowRight");
    press("ShiftLeft", true);
    controls.rested(); // as for a driver who is new
    press("ArrowUp");
  } else if (code === "choose") {
    press("Digit2");
    document.querySelector("#choices button").click();
    document.querySelector("#choices button").click();
    press("ArrowLeft");
  }
  return asked;
}"""


SLID = [[0, 0, 0, -0.5], [1, 0, 0, -0.5], [0.4, 0, 0, -0.5], [0, 1, 0, 0]]


@pytest.mark.parametrize(
    ("described", "code", "asked"),
    [
        ({"kind": "box", "count": 4, "names": list("abcd")}, "slide", SLID),
        ({"kind": "discrete", "count": 3, "names": list("012")}, "choose", [2, 0, 0, 0]),  # each choice is sent
    ],
)
def test_further_dimensions_have_sliders_and_choices_have_buttons(player, described, code, asked):
    assert player.page.evaluate(ASKED, [described, code]) == asked


def test_a_finger_on_the_stick_begins_the_dream(visit):
    player = visit("phone")
    player.start_anew()
    box = player.page.locator("#stick").bounding_box()
    player.page.touchscreen.tap(box["x"] + box["width"] - 4, box["y"] + box["height"] / 2)
    player.until(lambda state: state["running"] and state["step"] > 0)


def test_a_second_visitor_watches(visit, player):
    second = visit()
    assert second.page.inner_text("#role") == "you watch · 2 here"
    assert second.page.is_disabled("#run")
    player.start_anew()
    player.page.keyboard.press(".")
    player.until(lambda state: state["step"] == 1)
    second.until(lambda state: state["step"] == 1)


@pytest.mark.parametrize("size", SIZES)
def test_everything_is_in_sight_and_large_enough_to_be_touched(visit, size, tmp_path):
    player = visit(size)
    page, (width, height) = player.page, SIZES[size]
    player.start_anew()
    page.click("#overlay-go")
    player.until(lambda state: state["step"] > 3)
    page.screenshot(path=tmp_path / f"{size}.png")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = [button.bounding_box() for button in page.locator("button:visible").all()]
    assert len(boxes) >= 12
    for box in boxes:
        assert box["x"] >= 0
        assert box["y"] >= 0
        assert box["x"] + box["width"] <= width
        assert box["y"] + box["height"] <= height
        assert min(box["width"], box["height"]) >= 35
    picture = page.locator("#dream").bounding_box()
    assert picture["width"] == pytest.approx(picture["height"], abs=1)
    assert picture["width"] > (0.9 * width if size == "phone" else 0.5 * width)
    red, green, blue = player.picture().transpose(2, 0, 1)
    assert (red > green + 80).sum() > 20  # the cube
    assert (blue > red + 50).sum() > 10  # the pusher
    named = "[...document.querySelectorAll('button')].every(button => button.ariaLabel || button.textContent.trim())"
    assert page.evaluate(named)


def test_the_theme_is_kept(player):
    theme = "document.documentElement.dataset.theme"
    first = player.page.evaluate(theme)
    player.page.click("#theme")
    player.page.reload()
    assert player.page.evaluate(theme) != first


def test_a_recorded_demonstration_is_in_the_dataset_when_the_play_is_over(player, served):
    _, out, process = served
    player.page.keyboard.press("o")
    player.until(lambda state: state["recording"] and state["step"] > 0)
    player.page.keyboard.down("ArrowUp")
    player.until(lambda state: state["step"] > 8)
    player.page.keyboard.up("ArrowUp")
    player.page.click("#record")
    kept = player.until(lambda state: state["recorded"] == 1)
    assert "Demonstration 1 is kept" in player.page.inner_text("#toast")
    player.page.keyboard.press("o")  # and one that is still being recorded at the end
    player.until(lambda state: state["recording"] and state["step"] > 8)
    player.page.close()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 0
    dataset = EpisodeDataset(out)
    assert len(dataset) == 2
    episode = dataset[0]
    assert len(episode) == kept["step"]
    assert (episode.actions == [0, 1]).all(axis=1).sum() >= 4
