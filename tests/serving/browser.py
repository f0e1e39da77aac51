"""Headless Chromium, driven by chromedriver over the WebDriver protocol (https://www.w3.org/TR/webdriver2/)."""

import base64
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

TAB, ENTER = "\ue004", "\ue007"
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
_SECONDS = 60


class Browser:
    """One window."""

    def __init__(self, driver: httpx.Client, session: str) -> None:
        self._driver = driver
        self._session = session

    def command(self, method: str, path: str, **body: Any) -> Any:
        answer = self._driver.request(
            method, f"/session/{self._session}/{path}", json=body if method == "POST" else None
        )
        value = answer.json()["value"]
        assert answer.status_code == 200, value
        return value

    def open(self, address: str) -> None:
        self.command("POST", "url", url=address)

    def run(self, script: str, *arguments: Any) -> Any:
        """Return what a function with this body returns in the page."""
        return self.command("POST", "execute/sync", script=script, args=list(arguments))

    def wait_until(self, condition: str, *arguments: Any) -> None:
        """Wait until an expression is true in the page."""
        until = time.monotonic() + _SECONDS
        while time.monotonic() < until:
            if self.run(f"return Boolean({condition});", *arguments):
                return
            time.sleep(0.05)
        raise AssertionError(f"{condition} stays false; the page shows: {self.text('body')}")

    def texts(self, selector: str) -> list[str]:
        """Return the text of each matching element, as a person reads it."""
        found: list[str] = self.run(
            "return [...document.querySelectorAll(arguments[0])].map((one) => one.innerText.trim());",
            selector,
        )
        return found

    def text(self, selector: str) -> str:
        return self.texts(selector)[0]

    def click(self, selector: str) -> None:
        self.command("POST", f"element/{self._find(selector)}/click")

    def type(self, selector: str, text: str) -> None:
        element = self._find(selector)
        self.command("POST", f"element/{element}/clear")
        self.command("POST", f"element/{element}/value", text=text)

    def press(self, *keys: str) -> None:
        """Press keys one after the other, wherever the focus is."""
        steps = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self.command("POST", "actions", actions=[{"type": "key", "id": "keyboard", "actions": steps}])

    def resize(self, width: int, height: int) -> None:
        self.command(
            "POST", "goog/cdp/execute", cmd="Emulation.setDeviceMetricsOverride",
            params={"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )  # fmt: skip

    def prefer(self, scheme: str) -> None:
        """Choose light or dark."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.command(
            "POST", "goog/cdp/execute", cmd="Emulation.setEmulatedMedia", params={"features": features}
        )

    def complaints(self) -> list[str]:
        """Return what the browser's console says since the last call."""
        return [entry["message"] for entry in self.command("POST", "se/log", type="browser")]

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.command("GET", "screenshot")))

    def _find(self, selector: str) -> str:
        found: str = self.command("POST", "element", using="css selector", value=selector)[_ELEMENT]
        return found


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start a browser. Where none is installed, skip the test; under CI, fail."""
    driver, browser = shutil.which("chromedriver"), shutil.which("chromium")
    if driver is None or browser is None:
        if os.environ.get("CI"):
            pytest.fail("chromium or chromedriver is missing; .ci/run installs both")
        pytest.skip("needs chromium and chromedriver: apt-get install chromium chromium-driver")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [driver, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        try:
            assert process.stdout is not None
            line = next(line for line in process.stdout if "started successfully on port" in line)
            port = line.rstrip(" .\n").rpartition(" ")[2]
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120, trust_env=False) as client:
                answer = client.post("/session", json={"capabilities": {"alwaysMatch": {
                    "goog:loggingPrefs": {"browser": "ALL"},
                    "goog:chromeOptions": {"binary": browser, "args": [
                        "--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                        "--disable-background-networking", "--disable-component-update",
                        f"--user-data-dir={profile}",
                        *(["--no-sandbox"] if os.geteuid() == 0 else []),
                    ]},
                }}})  # fmt: skip
                session = answer.json()["value"]["sessionId"]
                try:
                    yield Browser(client, session)
                finally:
                    client.delete(f"/session/{session}")
        finally:
            process.terminate()
            process.wait()
