"""What a connection keeps back, and when it lets it go."""

from __future__ import annotations

import ssl

import httpcore
import pytest
import trio
import trio.testing

from linearized.server.gathering import MAX_GATHERED, GatheringStream


class Inner(httpcore.AsyncNetworkStream):
    """Records what is sent; answers when it is told to."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.timeouts: list[float | None] = []
        self.answers, self._answers = trio.open_memory_channel[bytes](10)
        self.failure: Exception | None = None
        self.sending = 0
        self.closed = False

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        self.sending += 1
        assert self.sending == 1, "a TLS connection takes one write at a time"
        await trio.lowlevel.checkpoint()
        self.sending -= 1
        if self.failure is not None:
            raise self.failure
        self.sent.append(buffer)
        self.timeouts.append(timeout)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        return (await self._answers.receive())[:max_bytes]

    async def aclose(self) -> None:
        self.closed = True

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore.AsyncNetworkStream:
        return Inner()

    def get_extra_info(self, info: str) -> object:
        return f"the {info}"


async def test_the_pieces_of_a_request_are_sent_together_when_its_answer_is_waited_for() -> None:
    inner = Inner()
    stream = GatheringStream(inner)
    for piece in (b"head ", b"body ", b"end"):
        await stream.write(piece, 5.0)
    assert inner.sent == []
    await inner.answers.send(b"answer")
    assert await stream.read(3, 7.0) == b"ans"
    assert (inner.sent, inner.timeouts) == ([b"head body end"], [7.0])
    await inner.answers.send(b"more")
    assert await stream.read(10) == b"more"
    assert inner.sent == [b"head body end"], "nothing was written since"


async def test_what_is_written_while_another_reads_is_sent_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    inner = Inner()
    stream = GatheringStream(inner)
    await stream.write(b"one ")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.read, 10)
        for piece in (b"two ", b"three "):  # the first while the reader is still sending
            nursery.start_soon(stream.write, piece)
        await trio.testing.wait_all_tasks_blocked()
        assert b"".join(sorted(inner.sent)) in {b"one three two ", b"one two three "}
        await stream.write(b"four")
        assert inner.sent[-1] == b"four"
        await inner.answers.send(b"answer")
    await stream.write(b"five")
    assert inner.sent[-1] == b"four"


async def test_no_more_is_kept_back_than_a_bound() -> None:
    inner = Inner()
    stream = GatheringStream(inner)
    await stream.write(b"x" * MAX_GATHERED)
    assert inner.sent == []
    await stream.write(b"y")
    assert [len(data) for data in inner.sent] == [MAX_GATHERED + 1]
    await stream.write(b"z")
    assert len(inner.sent) == 1


async def test_an_answer_counts_though_the_request_could_not_be_sent_whole() -> None:
    inner = Inner()
    inner.failure = httpcore.WriteError("reset")
    stream = GatheringStream(inner)
    await stream.write(b"a large request")
    await inner.answers.send(b"413")
    assert await stream.read(10) == b"413"
    with pytest.raises(httpcore.WriteError):
        await stream.write(b"x" * (MAX_GATHERED + 1))


async def test_the_connection_inside_does_the_rest() -> None:
    inner = Inner()
    stream = GatheringStream(inner)
    assert isinstance(await stream.start_tls(ssl.create_default_context()), GatheringStream)
    assert stream.get_extra_info("socket") == "the socket"
    await stream.aclose()
    assert inner.closed
