"""A browser for pages, where there is one."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

#: A page tells in its title how many parts its interactive figures have, and how many errors of scripts there were.
WATCH = (
    "<script>window.failures = []; window.addEventListener('error', e => failures.push(e.message));"
    "window.addEventListener('load', () => setTimeout(() => {"
    "const plots = [...document.querySelectorAll('.js-plotly-plot')];"
    "const drawn = plots.map(plot => plot._fullData.length).reduce((a, b) => a + b, 0);"
    "document.title = 'drawn ' + drawn + ' failed ' + failures.length; }, 300));</script>"
)


@pytest.fixture
def in_browser(tmp_path: Path) -> Callable[[Path], str]:
    """Function that opens a page in Chromium and returns its title, for example ``"drawn 12 failed 0"``."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs Chromium")

    def open_page(page: Path) -> str:
        watched = tmp_path / "watched.html"
        watched.write_text(page.read_text(encoding="utf-8").replace("<head>", "<head>" + WATCH, 1), encoding="utf-8")
        options = ["--headless", "--no-sandbox", "--enable-unsafe-swiftshader", "--virtual-time-budget=5000"]
        command = [browser, f"--user-data-dir={tmp_path / 'profile'}", *options, "--dump-dom", watched.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        return done.stdout.split("<title>")[1].split("</title>")[0]

    return open_page
