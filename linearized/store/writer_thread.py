"""A thread of its own for a store's transactions.

``trio.to_thread`` finds a thread for every call, names it, counts it and carries a context into it, which
costs twice as much as handing work to a thread that waits for it; and a server with little to do has a
transaction for every message.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread

import trio


class WriterThread:
    """Runs one function at a time; starts with the first."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._started = False

    async def run(self, work: Callable[[], None]) -> None:
        """Run ``work`` in the thread and raise what it raises. Once begun it is waited for: a transaction is
        finished, whoever is cancelled.
        """
        if not self._started:
            self._started = True
            # A daemon: a store that was never closed keeps no process alive.
            Thread(target=self._run, name="store-writer", daemon=True).start()
        task, token = trio.lowlevel.current_task(), trio.lowlevel.current_trio_token()
        failures: list[BaseException] = []

        def job() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
                failures.append(error)
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(trio.lowlevel.reschedule, task)

        self._jobs.put(job)
        await trio.lowlevel.wait_task_rescheduled(_stays)
        if failures:
            raise failures[0]

    def close(self) -> None:
        """End the thread after what it was given."""
        self._jobs.put(None)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()


def _stays(_: object) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.FAILED
