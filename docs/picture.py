"""Takes the picture in README: the first screen of the demo's page, in headless Chromium.

make demo && .venv/bin/python docs/picture.py
"""

import argparse
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDTH, HEIGHT = 1400, 900
COLOURS = 128


def main() -> None:
    """Writes docs/images/first_screen.png from the page that the demo has written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", nargs="?", default="runs/quickstart/report/index.html")
    page = Path(parser.parse_args().page).resolve(strict=True)
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        parser.error(f"there is none of {', '.join(BROWSERS)}")
    picture = ROOT / "docs" / "images" / "first_screen.png"
    picture.parent.mkdir(exist_ok=True)
    with TemporaryDirectory() as folder:
        taken = Path(folder, "screen.png")
        options = ["--headless", "--no-sandbox", "--hide-scrollbars", f"--screenshot={taken}"]
        options += [f"--window-size={WIDTH},{HEIGHT}", "--virtual-time-budget=10000"]
        subprocess.run([browser, *options, page.as_uri()], check=True, capture_output=True)
        # Flat colours need no more, and the file is a third of the size.
        Image.open(taken).convert("RGB").quantize(COLOURS).save(picture, optimize=True)


if __name__ == "__main__":
    main()
