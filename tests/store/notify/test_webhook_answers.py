"""A receiver that answered 2xx has accepted the page, with any rest of its answer; no phone rings twice for that."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import pytest
from tocsin_kit.http_answers import BoundedProtocol
from tocsin_notify.app.delivery.conclude import _kept
from tocsin_notify.channels.webhook import WebhookChannel
from tocsin_notify.domain.attempt import Permanent, Retryable, Sent

from tests.store.notify.raw import Line, listening, read_request
from tests.store.notify.support import ALLOWED, World, job, new_org, until
from tests.store.notify.test_webhook_channel import delivery

Rest = Callable[[Line], Awaitable[None]]


async def is_silent(line: Line) -> None:
    await asyncio.Event().wait()


async def is_endless(line: Line) -> None:
    while True:
        await line.say(b"400\r\n" + b"x" * 1024 + b"\r\n")


async def drips(line: Line) -> None:
    while True:
        await line.say(b"1\r\nx\r\n")
        await asyncio.sleep(0.05)


async def closes(line: Line) -> None:
    line.end("closes")


async def resets(line: Line) -> None:
    await asyncio.sleep(0.1)  # or the reset overtakes the status line on its way to the reader
    line.end("resets")


CHUNKED: Final = b"Transfer-Encoding: chunked\r\n\r\n"
# What follows the status line in the same packet; a pause; and what the receiver does then.
BODIES: Final[dict[str, tuple[bytes, bytes, Rest]]] = {
    "endless": (CHUNKED, b"", is_endless),
    "dripping": (CHUNKED, b"", drips),
    "silent": (b"Content-Length: 100\r\n\r\n", b"", is_silent),
    "silent within the head": (b"Content-Type: text/plain\r\n", b"", is_silent),
    "short": (b"Content-Length: 100\r\n\r\nfew", b"", closes),
    "short, cut off in a chunk": (CHUNKED + b"64\r\nfew", b"", closes),
    "cut off within the head": (b"Content-Le", b"", closes),
    "broken chunks, one packet": (CHUNKED + b"no number\r\n", b"", is_silent),
    "broken chunks, two packets": (CHUNKED, b"no number\r\n", is_silent),
    "broken chunks, then the end": (CHUNKED + b"zz\r\n", b"", closes),
    "two lengths": (b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", b"", is_silent),
    "no header": (b"this is no header\r\n\r\n", b"", is_silent),
    "a header too long": (b"X: " + b"x" * 20_000 + b"\r\n\r\n", b"", is_silent),
    "wrong gzip": (b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello", b"", is_silent),
    "reset": (b"Content-Length: 100\r\n\r\nfew", b"", resets),
    "more than was said": (b"Content-Length: 2\r\n\r\nhello", b"HTTP/1.1 500 No\r\n\r\n", is_silent),
}
TIMEOUTS: Final = (0.5, 2.0, 10.0, 40.0)
STATUSES: Final[dict[str, tuple[bytes, tuple[type, ...]]]] = {
    "200": (b"HTTP/1.1 200 OK\r\n", (Sent,)),
    "202 after 100": (b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\nHTTP/1.1 202 Accepted\r\n", (Sent,)),
    "299, no reason": (b"HTTP/1.0 299 \r\n", (Sent,)),
    "500": (b"HTTP/1.1 500 No\r\n", (Retryable,)),
    "404": (b"HTTP/1.1 404 No\r\n", (Permanent, Retryable)),
    "100 only": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 No\r\n", (Retryable,)),
}


@pytest.mark.parametrize("status", STATUSES)
async def test_the_status_line_decides(status: str) -> None:
    line_said, expected = STATUSES[status]

    async def outcome_of(rest: tuple[bytes, bytes, Rest], *, kept: bool, timeout: float) -> tuple[object, int]:
        requests, warm = 0, not kept

        async def serve(line: Line) -> None:
            nonlocal requests
            while True:
                await read_request(line)
                if not warm:
                    await line.say(b"HTTP/1.1 204 No Content\r\n\r\n")
                    continue
                requests += 1
                head, later, then = rest
                await line.say(line_said + head)
                if later:
                    await asyncio.sleep(0.02)
                    await line.say(later)
                await then(line)

        channel = WebhookChannel(timeout=timeout, allow_private=True, concurrency=10)
        async with listening(serve) as port:
            while not warm:
                warm = isinstance(await channel.send(delivery(f"http://127.0.0.1:{port}/"), ALLOWED), Sent)
            outcome = await channel.send(delivery(f"http://127.0.0.1:{port}/"), ALLOWED)
        await channel.close()
        return outcome, requests

    async def judged(rest: tuple[bytes, bytes, Rest], *, kept: bool) -> tuple[object, int]:
        """Some bodies last until the call times out, so that is short. A busy machine gets longer for the status line."""
        for timeout in TIMEOUTS:
            outcome, requests = await outcome_of(rest, kept=kept, timeout=timeout)
            if not (isinstance(outcome, Retryable) and outcome.reason.startswith("no answer within")):
                break
            if Retryable in expected:
                break
        return outcome, requests

    cases = [(name, rest, kept) for name, rest in BODIES.items() for kept in (False, True)]
    outcomes = await asyncio.gather(*(judged(rest, kept=kept) for _, rest, kept in cases))
    for (name, _, kept), (outcome, requests) in zip(cases, outcomes, strict=True):
        assert isinstance(outcome, expected), (name, kept, outcome)
        if expected == (Sent,):
            assert requests == 1, (name, kept, "it was sent again")


async def test_what_is_no_answer_is_tried_again() -> None:
    async def serve(line: Line) -> None:
        await read_request(line)
        await line.say(b"SSH-2.0-OpenSSH HTTP/1.1 200 OK\r\n")
        line.end("closes")

    channel = WebhookChannel(timeout=2, allow_private=True, concurrency=10)
    async with listening(serve) as port:
        assert isinstance(await channel.send(delivery(f"http://127.0.0.1:{port}/"), ALLOWED), Retryable)
    await channel.close()


@pytest.mark.parametrize(
    "said", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", b"\r\n"]
)
async def test_a_receiver_that_never_comes_to_its_answer_is_left_at_once(said: bytes) -> None:
    """All pages of the process waited while one receiver sent interim answers: for ten seconds, at each attempt."""
    ended = asyncio.Event()

    async def serve(line: Line) -> None:
        await read_request(line)
        try:
            while True:
                await line.say(said * 1000)
        except ConnectionError:
            ended.set()

    channel = WebhookChannel(timeout=20, allow_private=True, concurrency=10)
    async with listening(serve) as port:
        outcome = await channel.send(delivery(f"http://127.0.0.1:{port}/"), ALLOWED)
        assert isinstance(outcome, Retryable)
        assert outcome.reason == "no answer: the answer does not begin within 32768 bytes"
        await ended.wait()
    await channel.close()


async def test_of_many_answers_to_one_request_only_the_first_few_are_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """All pages of the process waited for up to 0.3 s while one receiver's packet of 13,000 answers was parsed."""
    parsed = 0
    parse = BoundedProtocol.feed_data

    def counting(self: BoundedProtocol, data: object, size: int = 0) -> None:
        nonlocal parsed
        parsed += 1
        parse(self, data, size)

    async def serve(line: Line) -> None:
        await read_request(line)
        await line.say(b"HTTP/1.1 204 No Content\r\n\r\n" + b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n" * 10_000)

    monkeypatch.setattr(BoundedProtocol, "feed_data", counting)
    channel = WebhookChannel(timeout=40.0, allow_private=True, concurrency=10)
    async with listening(serve) as port:
        assert await channel.send(delivery(f"http://127.0.0.1:{port}/"), ALLOWED) == Sent()
    await channel.close()
    assert 1 < parsed < 500


async def test_a_call_cut_off_after_the_status_line_counts_as_sent() -> None:
    said = asyncio.Event()

    async def serve(line: Line) -> None:
        await read_request(line)
        await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
        said.set()
        await is_silent(line)

    channel = WebhookChannel(timeout=10, allow_private=True, concurrency=10)
    async with listening(serve) as port:
        call = asyncio.create_task(channel.send(delivery(f"http://127.0.0.1:{port}/"), ALLOWED))
        await said.wait()
        await asyncio.sleep(0.1)  # its bytes are on their way
        call.cancel()
        assert await call == Sent()
    await channel.close()


async def ended(world: World, org: str) -> bool:
    return await world.states("org_id = $1", org) in (["sent"], ["dead"])


async def test_a_page_whose_answer_breaks_off_rings_once(world: World) -> None:
    org, calls = new_org(), 0

    async def serve(line: Line) -> None:
        nonlocal calls
        while True:
            await read_request(line)
            calls += 1
            await line.say(b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"no number\r\n")

    async with listening(serve) as port, world.replica() as notify:
        method = await world.method(org, webhook="x")
        await world.admin.execute(
            "UPDATE contact_methods SET address = $1 WHERE id = $2", f"http://127.0.0.1:{port}/", method
        )
        await notify.submit(job(org))
        await until(lambda: ended(world, org))
        assert await world.states("org_id = $1", org) == ["sent"]
    assert calls == 1


@pytest.mark.parametrize(
    "answer", [b"SSH-2.0-OpenSSH_9.7\r\n\r\n", b"HTTP/1.1 500 \xff\xfe no\r\nContent-Length: 0\r\n\r\n"]
)
async def test_an_answer_in_no_form_can_be_noted_and_tells_no_secret(answer: bytes) -> None:
    """The path of a chat's hook is its secret, and what PostgreSQL cannot hold would lose the outcome of the attempt."""

    async def serve(line: Line) -> None:
        await read_request(line)
        await line.say(answer)

    channel = WebhookChannel(timeout=40.0, allow_private=True, concurrency=10)
    async with listening(serve) as port:
        outcome = await channel.send(delivery(f"http://127.0.0.1:{port}/a-secret"), ALLOWED)
    await channel.close()
    assert isinstance(outcome, Retryable)
    assert "a-secret" not in outcome.reason
    assert _kept(outcome.reason).encode()
