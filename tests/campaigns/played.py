"""How does playing a dream look? The moving picture of the README: somebody drives, then the agent takes the wheel.

`python -m tests.campaigns.played --out docs/play.gif` needs the extras play and browser, and a Chromium. It is played
slowly and shown fast, so that it looks the same on a slow machine.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

PORT, SIZE, WIDTH = 8731, {"width": 1060, "height": 660}, 640
BY_HAND, HELD = ("ArrowDown", "ArrowLeft"), 7  # keys, and for how many pictures each
_FEWEST, _COLOURS, _MILLISECONDS = 3, 192, 110


def picture(page: Page) -> Image.Image:
    """What the page shows, as small as the README has it."""
    shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    return shot.resize((WIDTH, round(WIDTH * shot.height / shot.width)), Image.Resampling.LANCZOS)


def play(page: Page) -> list[Image.Image]:
    """The pictures of an episode, one of every step that is caught."""
    page.goto(f"http://127.0.0.1:{PORT}/")
    page.wait_for_function("document.querySelector('#role').textContent === 'you drive'")
    page.click("#speeds button:first-child")
    pictures, shown = [picture(page)], "0"
    page.keyboard.down(BY_HAND[0])
    while page.evaluate("document.querySelector('#overlay').classList.contains('away')") or len(pictures) < _FEWEST:
        step = str(page.text_content("#step"))
        if step == shown:
            page.wait_for_timeout(30)
            continue
        shown = step
        pictures.append(picture(page))
        if len(pictures) == HELD:
            page.keyboard.up(BY_HAND[0])
            page.keyboard.down(BY_HAND[1])
        if len(pictures) == 2 * HELD:
            page.keyboard.up(BY_HAND[1])
            page.keyboard.press("p")
    return [*pictures, *[picture(page)] * 8]


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.played", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="GIF to write")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    command = [sys.executable, "-m", "cosmos_isaac_wm.train.play", "--port", str(PORT), "--seed", str(options.seed)]
    server = subprocess.Popen(command)
    try:
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = browser.new_page(viewport=SIZE, color_scheme="dark")
            for _ in range(60):  # until it listens
                try:
                    page.goto(f"http://127.0.0.1:{PORT}/")
                    break
                except Exception:
                    time.sleep(0.5)
            pictures = play(page)
            browser.close()
    finally:
        server.terminate()
        server.wait()
    first, *rest = [each.quantize(_COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE) for each in pictures]
    first.save(options.out, save_all=True, append_images=rest, duration=_MILLISECONDS, loop=0, optimize=True)
    print(f"{len(pictures)} pictures, {options.out.stat().st_size / 1e6:.2f} MB in {options.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
