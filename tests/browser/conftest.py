"""A real JupyterLab in a real Chromium, driven as a reader would: by menu, mouse and keyboard.

`lab` is the session's server. `lab.open(notebook)` copies a notebook into the server's folder and
returns its `Page`; `page.run_all()`, `page.wait_for_cells()`, `page.values()` and the rest work on
any notebook of this project. Without a chromium on the machine the tests skip, with CI=true they
fail.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import pytest
from playwright.sync_api import Browser, Locator, sync_playwright
from playwright.sync_api import Page as Tab

from enhancelib import runtime
from tests.conftest import absent

CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SECONDS = 120.0  # for anything that a loaded two-core machine may take its time over
LIGHT, DARK = "JupyterLab Light", "JupyterLab Dark"


@dataclass
class Lab:
    """A JupyterLab server on loopback with a private configuration, and a browser for it."""

    folder: Path
    port: int
    browser: Browser
    settings: Path
    screenshots: Path

    def open(
        self, notebook: Path, *, theme: str = LIGHT, width: int = 1000, height: int = 900
    ) -> Page:
        """A copy of the notebook, in a fresh window of the given size."""
        self._set("@jupyterlab/apputils-extension/themes", {"theme": theme})
        copy = self.folder / f"{notebook.stem}-{time.monotonic_ns()}.ipynb"
        shutil.copy(notebook, copy)
        context = self.browser.new_context(viewport={"width": width, "height": height})
        page = Page(context.new_page(), copy, self.screenshots)
        page.tab.on("request", lambda request: page.note(request.url))
        page.tab.set_default_timeout(60_000)
        page.tab.goto(f"http://127.0.0.1:{self.port}/lab/tree/{copy.name}?reset")
        page.tab.wait_for_selector(".jp-Notebook .jp-Cell")
        _until(lambda: self._connected(copy.name))
        return page

    def _connected(self, notebook: str) -> bool:
        """Whether the page has its kernel: before that JupyterLab asks which one is meant."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/sessions", timeout=20) as it:
            sessions = json.load(it)
        kernels = [one["kernel"] for one in sessions if one["path"] == notebook]
        return any(k["connections"] and k["execution_state"] == "idle" for k in kernels)

    def _set(self, plugin: str, values: dict[str, Any]) -> None:
        file = self.settings / f"{plugin}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))


@dataclass
class Page:
    """One notebook in JupyterLab."""

    tab: Tab
    notebook: Path
    screenshots: Path
    outside: list[str] = field(default_factory=list)

    def note(self, url: str) -> None:
        """Remember a request that would have left this machine."""
        if not url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "blob:", "data:")):
            self.outside.append(url)

    def hide_sidebar(self) -> None:
        """Give the notebook the whole width, as a reader on a small screen does."""
        if self.tab.locator("#jp-left-stack").is_visible():
            self.tab.keyboard.press("Control+b")
            self.tab.locator("#jp-left-stack").wait_for(state="hidden")

    def run_all(self) -> None:
        """Run > Run All Cells, again until the notebook has taken it.

        While the kernel is still connecting, JupyterLab marks the cells as waiting and then forgets
        them without a word.
        """
        self.tab.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]')
        for _ in range(10):
            self.tab.get_by_role("menuitem", name="Run", exact=True).click()
            self.tab.get_by_role("menuitem", name="Run All Cells", exact=True).click()
            with contextlib.suppress(AssertionError):
                _until(lambda: any(map(_taken, self.prompts())), 6)
            _until(lambda: any(map(_ran, self.prompts())) or not any(map(_taken, self.prompts())))
            if any(map(_ran, self.prompts())):
                return
        raise AssertionError(f"Run All Cells had no effect; see {self.screenshot('not-run')}")

    def wait_for_cells(self, seconds: float = SECONDS) -> None:
        """Wait until every code cell with text has a number, and fail on the first error."""

        def done() -> bool:
            return all(map(_ran, self.prompts()))

        try:
            _until(done, seconds)
        except AssertionError:
            where = self.screenshot("unfinished")
            raise AssertionError(f"cells {self.prompts()} after {seconds} s; see {where}") from None
        errors = self.tab.locator('[data-mime-type="application/vnd.jupyter.error"]')
        if errors.count():
            raise AssertionError(f"a cell failed: {errors.first.inner_text()[-2000:]}")

    def prompts(self) -> list[str]:
        """The prompts of the code cells that have text, in order."""
        return self.tab.evaluate(
            """() => [...document.querySelectorAll(".jp-Notebook .jp-CodeCell")]
              .filter((cell) => cell.querySelector(".jp-InputArea .cm-content")
                .textContent.trim())
              .map((cell) => cell.querySelector(".jp-InputPrompt").textContent)"""
        )

    def outputs(self) -> list[str]:
        """The text under each code cell, "" where there is none, after saving the notebook."""
        before = self.notebook.stat().st_mtime_ns
        self.tab.keyboard.press("Control+s")
        _until(lambda: self.notebook.stat().st_mtime_ns != before, 30)
        cells = nbformat.read(self.notebook, as_version=4).cells
        return [_text(cell.outputs) for cell in cells if cell.cell_type == "code"]

    def slider(self, label: str) -> Locator:
        """The handle of the ipywidgets slider whose label begins so."""
        row = self.tab.locator(".widget-slider", has_text=label)
        return row.locator(".noUi-handle")

    def values(self) -> dict[str, str]:
        """Label -> shown value of every slider and dropdown in the notebook."""
        return self.tab.evaluate(
            """() => Object.fromEntries(
              [...document.querySelectorAll(".widget-slider, .widget-dropdown")].map((row) => {
                const shown = row.querySelector(".widget-readout");
                const label = row.querySelector(".widget-label").textContent;
                return [label, shown ? shown.textContent : row.querySelector("select").value];
              }))"""
        )

    def press(self, target: Locator, key: str, times: int = 1) -> None:
        """Focus something and press a key."""
        target.scroll_into_view_if_needed()
        target.focus()
        for _ in range(times):
            self.tab.keyboard.press(key)

    def picture(self, side: str = "after", *, within: str = "body") -> bytes:
        """The PNG that the first divider view shows "before" or "after" its divider."""
        image = self.tab.locator(f"{within} .enh-{side} img.enh-image").first
        url = image.evaluate(
            """async (image) => {
              const file = await (await fetch(image.src)).blob();
              return new Promise((resolve) => {
                const reader = new FileReader();
                reader.onload = () => resolve(reader.result);
                reader.readAsDataURL(file);
              });
            }"""
        )
        return base64.b64decode(url.partition(",")[2])

    def caption(self, *, within: str = "body") -> str:
        """The status line under the first divider view."""
        return self.tab.locator(f"{within} .enh-caption").first.inner_text()

    def wait_for_change(self, read: Any, before: Any, seconds: float = SECONDS) -> Any:
        """Wait until `read()` gives something else than before; returns it."""
        _until(lambda: read() != before, seconds)
        return read()

    def screenshot(self, name: str, *, top: str = "") -> Path:
        """A picture of the window, kept under runs/browser/, its path printed.

        `top` is the selector of what shall stand at the upper edge.
        """
        if top:
            self.tab.locator(top).first.evaluate("(e) => e.scrollIntoView({ block: 'start' })")
            self.tab.mouse.move(0, 0)
        self.screenshots.mkdir(parents=True, exist_ok=True)
        path = self.screenshots / f"{name}.png"
        self.tab.screenshot(path=path)
        print(f"screenshot: {path}")
        return path

    def close(self) -> None:
        """Close the window; the kernel goes with the server."""
        self.tab.context.close()


def _taken(prompt: str) -> bool:
    """Whether a prompt shows a number or the star of a waiting cell."""
    return prompt.strip("[]: \xa0\n") != ""


def _ran(prompt: str) -> bool:
    return any(map(str.isdigit, prompt))


def _text(outputs: list[Any]) -> str:
    texts = (out.get("text") or out.get("data", {}).get("text/plain", "") for out in outputs)
    return "".join(texts)


def _until(true: Any, seconds: float = SECONDS) -> None:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise AssertionError(f"nothing came within {seconds:g} s")
        time.sleep(0.05)


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """JupyterLab and Chromium, shared by the session's browser tests."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        absent("no chromium on this machine (Debian: apt-get install chromium)")
    home = tmp_path_factory.mktemp("lab")
    folder, port = home / "notebooks", _free_port()
    folder.mkdir()
    with _server(home, folder, port) as settings, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        lab = Lab(folder, port, browser, settings, runtime.root() / "runs" / "browser")
        # Off-screen cells must exist in the page, and no toast may cover a control.
        lab._set("@jupyterlab/notebook-extension/tracker", {"windowingMode": "none"})
        quiet = {"fetchNews": "false", "checkForUpdates": False}
        lab._set("@jupyterlab/apputils-extension/notification", quiet)
        yield lab
        browser.close()


@contextlib.contextmanager
def _server(home: Path, folder: Path, port: int) -> Iterator[Path]:
    """A JupyterLab that knows nothing of this user's; yields the folder of its settings."""
    private = ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR")
    own = {f"JUPYTER_{name}": str(home / name.lower()) for name in private}
    settings = home / "settings"
    own |= {
        "JUPYTERLAB_SETTINGS_DIR": str(settings),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "IPYTHONDIR": str(home / "ipython"),
    }
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1",
        f"--port={port}", "--ServerApp.port_retries=0", "--IdentityProvider.token=",
        f"--ServerApp.root_dir={folder}", "--LabApp.extension_manager=readonly",
    ]  # fmt: skip
    log = home / "server.log"
    with log.open("w") as stream:
        server = subprocess.Popen(
            command, env=os.environ | own, stdout=stream, stderr=stream, start_new_session=True
        )
    try:
        _until(lambda: _answers(port) or server.poll() is not None, SECONDS)
        if server.poll() is not None:
            raise AssertionError(f"JupyterLab did not start:\n{log.read_text()[-3000:]}")
        yield settings
    finally:
        _stop(server)


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/api", timeout=5).close()
        return True
    return False


def _stop(server: subprocess.Popen[bytes]) -> None:
    """End the server, which ends its kernels; its process group only if it does not obey."""
    server.send_signal(signal.SIGTERM)
    try:
        server.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait(20)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
