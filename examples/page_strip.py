"""Photograph a run's page with a browser: python examples/page_strip.py refined/report.html strip.webp."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

WIDTH, TOP, BOTTOM = 1100, 345, 1070
"""Pixels of the page: from the bar of all decisions to the first row of pictures."""


def main(page: str, out: str) -> None:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        sys.exit("No browser was found: install chromium or Google Chrome.")
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder, "page.png")
        flags = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={WIDTH},1500")
        command = [browser, *flags, f"--screenshot={shot}", Path(page).resolve().as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        Image.open(shot).convert("RGB").crop((0, TOP, WIDTH, BOTTOM)).save(out, quality=80)


if __name__ == "__main__":
    main(*sys.argv[1:])
