"""The thread that transactions run in."""

from __future__ import annotations

import threading

import pytest
import trio

from linearized.store.writer_thread import WriterThread


async def test_everything_runs_in_one_thread_that_is_not_the_loops() -> None:
    thread = WriterThread()
    names: list[int] = []
    for _ in range(2):
        await thread.run(lambda: names.append(threading.get_ident()))
    thread.close()
    assert names[0] == names[1] != threading.get_ident()


async def test_what_fails_is_raised_to_who_waits_and_the_thread_goes_on() -> None:
    thread = WriterThread()
    done: list[int] = []
    with pytest.raises(ZeroDivisionError):
        await thread.run(lambda: done.append(1 // 0))
    await thread.run(lambda: done.append(1))
    thread.close()
    assert done == [1]


async def test_who_is_cancelled_waits_all_the_same() -> None:
    thread = WriterThread()
    begun, go = threading.Event(), threading.Event()
    done: list[bool] = []

    def work() -> None:
        begun.set()
        done.append(go.wait())

    async def write() -> None:
        await thread.run(work)
        assert done == [True]
        done.append(False)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        await trio.to_thread.run_sync(begun.wait)
        nursery.cancel_scope.cancel()
        go.set()
    thread.close()
    assert done == [True, False]


async def test_closing_ends_the_thread_after_its_work() -> None:
    thread = WriterThread()
    found: list[threading.Thread] = []
    await thread.run(lambda: found.append(threading.current_thread()))
    thread.close()
    await trio.to_thread.run_sync(found[0].join)
    assert not found[0].is_alive()
