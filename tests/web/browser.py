"""A headless Chromium, driven over loopback by the WebDriver protocol (W3C) as far as the tests need it."""

from __future__ import annotations

import base64
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import trio

# A loaded machine takes seconds for what takes milliseconds.
PATIENCE: Final = 60
ELEMENT: Final = "element-6066-11e4-a52e-4f735466cecf"
KEYS: Final = {"Tab": "\ue004", "Enter": "\ue007", "Space": " ", "Shift": "\ue008", "Escape": "\ue00c"}
FLAGS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)


@dataclass
class Browser:
    """One session."""

    http: httpx.AsyncClient
    session: str

    async def call(self, method: str, path: str, **body: Any) -> Any:
        content = body if method == "POST" else None
        answer = await self.http.request(method, f"{self.session}{path}", json=content)
        value = answer.json()["value"]
        assert answer.status_code == 200, value
        return value

    async def open(self, url: str) -> None:
        await self.call("POST", "/url", url=url)

    async def run(self, script: str, *arguments: Any) -> Any:
        """The value that a function body returns, or that the promise it returns resolves to."""
        return await self.call("POST", "/execute/sync", script=script, args=list(arguments))

    async def until(self, script: str, *arguments: Any) -> Any:
        """The value of an expression, once it is true; the page itself looks for it."""
        looking = f"""
            const values = arguments;
            return new Promise(done => {{
                const look = (...arguments) => {{
                    const value = {script};
                    if (value) done(value); else setTimeout(look, 20, ...values);
                }};
                look(...values);
            }})"""
        return await self.run(looking, *arguments)

    async def element(self, selector: str) -> str:
        found = await self.call("POST", "/element", using="css selector", value=selector)
        return str(found[ELEMENT])

    async def click(self, selector: str) -> None:
        await self.call("POST", f"/element/{await self.element(selector)}/click")

    async def write(self, selector: str, text: str) -> None:
        await self.call("POST", f"/element/{await self.element(selector)}/value", text=text)

    async def press(self, *keys: str, shift: bool = False) -> None:
        """Press keys on whatever has the focus: names in ``KEYS``, or single characters."""
        strokes = [
            {"type": kind, "value": KEYS.get(key, key)} for key in keys for kind in ("keyDown", "keyUp")
        ]
        if shift:
            strokes = [
                {"type": "keyDown", "value": KEYS["Shift"]},
                *strokes,
                {"type": "keyUp", "value": KEYS["Shift"]},
            ]
        await self.call("POST", "/actions", actions=[{"type": "key", "id": "keys", "actions": strokes}])

    async def focus(self) -> str:
        """What has the focus: its ID, or else its text."""
        return str(await self.run("const e = document.activeElement; return e.id || e.textContent.trim()"))

    async def size(self, width: int, height: int, *, dark: bool = False) -> None:
        """Have the page as wide as a phone or a screen, which a window need not be."""
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        for cmd, params in (
            (
                "Emulation.setDeviceMetricsOverride",
                {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
            ),
            ("Emulation.setEmulatedMedia", {"features": features}),
        ):
            await self.call("POST", "/goog/cdp/execute", cmd=cmd, params=params)

    async def screenshot(self, path: Path) -> None:
        await trio.Path(path).write_bytes(base64.b64decode(await self.call("GET", "/screenshot")))

    async def complaints(self) -> list[str]:
        """What the browser's console holds against the page."""
        logged = await self.call("POST", "/se/log", type="browser")
        return [line["message"] for line in logged if line["level"] == "SEVERE"]


@asynccontextmanager
async def open_browser(directory: Path) -> AsyncIterator[Browser]:
    """A browser with a profile of its own in ``directory``."""
    driver, chromium = shutil.which("chromedriver"), shutil.which("chromium")
    assert driver is not None, "the packages chromium and chromium-driver are needed: make debian-chromium"
    assert chromium is not None
    process = await trio.lowlevel.open_process(
        [driver, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    async with httpx.AsyncClient(timeout=2 * PATIENCE, trust_env=False) as http:
        try:
            with trio.fail_after(PATIENCE):
                url = f"http://127.0.0.1:{await _port(process)}"
            options = {
                "binary": chromium,
                "args": [*FLAGS, f"--user-data-dir={directory}"],
            }
            capabilities = {
                "browserName": "chrome",
                "goog:chromeOptions": options,
                "goog:loggingPrefs": {"browser": "ALL"},
                "timeouts": {"script": PATIENCE * 1000},
            }
            answer = await http.post(f"{url}/session", json={"capabilities": {"alwaysMatch": capabilities}})
            assert answer.status_code == 200, answer.text
            session = f"{url}/session/{answer.json()['value']['sessionId']}"
            try:
                yield Browser(http, session)
            finally:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + PATIENCE):
                    await http.delete(session)
        finally:
            process.terminate()
            with trio.CancelScope(shield=True):
                await process.wait()
                assert process.stdout is not None
                await process.stdout.aclose()


async def _port(process: trio.Process) -> int:
    assert process.stdout is not None
    text = b""
    while b"on port " not in text.replace(b"on port 0", b"") or not text.endswith(b"\n"):
        text += await process.stdout.receive_some()
    return int(text.rpartition(b"on port ")[2].split(b".")[0])
