"""A real Chromium, with a phone's screen or a wider one.

It is spoken to by its DevTools protocol (chromedevtools.github.io/devtools-protocol).
"""

import asyncio
import base64
import itertools
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
from tocsin_stack.scratch import scratch

PROGRAM: Final = shutil.which("chromium")
"""Debian's package `chromium`; None where it is not installed."""
WIDTH, HEIGHT = 360, 640
"""Of a small phone, in CSS pixels."""
_FLAGS: Final = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--remote-debugging-port=0",
)
_LISTENS: Final = b"DevTools listening on "


class Phone:
    """One tab."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, session: str) -> None:
        self._socket = socket
        self._session = session
        self._numbers = itertools.count(1)
        self._happened: list[dict[str, Any]] = []

    async def opens(self, url: str) -> None:
        """Returns once the page is there."""
        self._happened.clear()
        await self.does("Page.navigate", url=url)
        await self.sees("Page.loadEventFired")

    async def presses(self, label: str) -> None:
        """A button whose text begins so, with a finger in its middle; returns once the page that follows is there."""
        found = await self.asks(
            f"""(() => {{
              const button = [...document.querySelectorAll('button')].find(e => e.innerText.startsWith({label!r}));
              button.scrollIntoView();
              const box = button.getBoundingClientRect();
              return [box.x + box.width / 2, box.y + box.height / 2];
            }})()"""
        )
        self._happened.clear()
        where = {"x": found[0], "y": found[1]}
        for kind in ("mousePressed", "mouseReleased"):
            await self.does("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **where)
        await self.sees("Page.loadEventFired")

    async def asks(self, expression: str) -> Any:
        """What the browser knows of the page; it answers also where pages may run no script."""
        answer = await self.does("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def photograph(self, file: Path) -> None:
        """What its owner sees, as a PNG."""
        answer = await self.does("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        await asyncio.to_thread(file.write_bytes, base64.b64decode(answer["data"]))

    async def asks_worker(self, expression: str) -> None:
        """Run it in the service worker of the page."""
        targets = await self._does(None, "Target.getTargets")
        [worker] = [each["targetId"] for each in targets["targetInfos"] if each["type"] == "service_worker"]
        attached = await self._does(None, "Target.attachToTarget", targetId=worker, flatten=True)
        await self._does(attached["sessionId"], "Runtime.evaluate", expression=expression, awaitPromise=True)

    async def does(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the protocol."""
        return await self._does(self._session, method, **params)

    async def _does(self, session: str | None, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        command = {"id": number, "method": method, "params": params}
        await self._socket.send_json(command if session is None else command | {"sessionId": session})
        while True:
            said = await self._socket.receive_json(timeout=30)
            if said.get("id") == number and said.get("sessionId") == session:
                assert "error" not in said, said["error"]
                result: dict[str, Any] = said["result"]
                return result
            self._happened.append(said)

    async def sees(self, method: str, fits: Callable[[dict[str, Any]], bool] = lambda _: True) -> dict[str, Any]:
        """The parameters of the next event of the protocol that fits."""
        while True:
            for place, said in enumerate(self._happened):
                if said.get("method") == method and fits(said["params"]):
                    del self._happened[: place + 1]
                    params: dict[str, Any] = said["params"]
                    return params
            self._happened.append(await self._socket.receive_json(timeout=30))


@asynccontextmanager
async def phone(*, scripts: bool, width: int = WIDTH, height: int = HEIGHT) -> AsyncIterator[Phone]:
    """A browser of its own, until the block ends. `scripts`: whether pages may run any. A wide one is no phone."""
    assert PROGRAM is not None, "see PROGRAM"
    with scratch("tocsin-chromium-") as folder:
        process = await asyncio.create_subprocess_exec(
            *(PROGRAM, *_FLAGS, f"--user-data-dir={folder}", "about:blank"),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            assert process.stderr is not None
            async with asyncio.timeout(60):
                line = b""
                while not line.startswith(_LISTENS):
                    line = await process.stderr.readline()
                    assert line, "chromium has ended"
            url = line.removeprefix(_LISTENS).decode().strip()
            async with aiohttp.ClientSession() as http, http.ws_connect(url, max_msg_size=0) as socket:
                yield await _tab(socket, scripts, width, height)
        finally:
            process.kill()
            await process.wait()


async def _tab(socket: aiohttp.ClientWebSocketResponse, scripts: bool, width: int, height: int) -> Phone:
    async def asks(number: int, method: str, **params: Any) -> dict[str, Any]:
        await socket.send_json({"id": number, "method": method, "params": params})
        while (said := await socket.receive_json(timeout=30)).get("id") != number:
            pass
        result: dict[str, Any] = said["result"]
        return result

    target = (await asks(1, "Target.createTarget", url="about:blank"))["targetId"]
    session = (await asks(2, "Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
    tab = Phone(socket, session)
    await tab.does("Page.enable")
    screen = {"width": width, "height": height, "deviceScaleFactor": 2, "mobile": width <= 480}
    await tab.does("Emulation.setDeviceMetricsOverride", **screen)
    await tab.does("Emulation.setScriptExecutionDisabled", value=not scripts)
    return tab
