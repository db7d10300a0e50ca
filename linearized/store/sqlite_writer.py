"""Group commit: one writer that executes everything waiting in one transaction.

A durable commit costs one flush of the disk however much it holds, so writes that arrive while one is being
flushed share the next. One that fails is undone alone and only its submitter hears of it. Submitters wake
after the commit, which is what makes their writes durable on return.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar, cast

import trio

from linearized.exceptions import StoreError
from linearized.store.known import Known

# Writes that one transaction may hold. Beyond a few hundred the flush is a small share of the cost and a
# longer transaction only delays those at its front.
MAX_BATCH_WRITES = 512
# Writes that may be in memory, those that are being executed among them; beyond that submitters wait their
# turn. Two full batches keep the writer busy.
MAX_WAITING_WRITES = 1024
# Writes after which the log is copied into the database in the background, so that it is rarely done in a
# commit.
CHECKPOINT_AFTER_WRITES = 2000

# What a write may raise: our own errors, SQLite's, and what bad arguments cause. Anything else is a bug and
# ends the writer.
FAILURES = (StoreError, sqlite3.Error, ArithmeticError, LookupError, TypeError, ValueError)

T = TypeVar("T")


class Transaction:
    """What a write gets to work with: the connection, and the global position its room changes take."""

    __slots__ = ("_position", "connection")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self._position: int | None = None

    @property
    def position(self) -> int:
        """One position stands for the whole transaction: readers see all of it or nothing."""
        if self._position is None:
            row = self.connection.execute("SELECT coalesce(max(position), 0) + 1 FROM rooms").fetchone()
            self._position = cast("int", row[0])
        return self._position


Operation = Callable[[Transaction], T]
Changes = Sequence[tuple[Known[Any, Any], Sequence[Any]]]
"""What an operation may change of what is kept in memory: where, and the keys there."""


class _Write(Generic[T]):
    """An operation on its way: what to run, who waits, and what came of it."""

    __slots__ = ("_changes", "done", "error", "operation", "result")

    def __init__(self, operation: Operation[T], changes: Changes) -> None:
        self.operation = operation
        self._changes = changes
        self.done = trio.Event()
        self.result: T | None = None
        self.error: Exception | None = None
        for known, keys in changes:
            known.begin(keys)

    def finish(self) -> None:
        """Nothing more happens to it."""
        for known, keys in self._changes:
            known.end(keys)
        self.done.set()


class GroupWriter:
    """Executes operations on ``connection``, which it alone uses, in ``run``.

    They go straight to a thread that takes all that wait, and what became of them comes straight back: a loop
    that is busy holds up neither.

    ``checkpointer`` is a second connection to the same file; it copies the write-ahead log back in the
    background. ``in_thread`` False runs transactions on the loop's own thread: for tests under a mock clock,
    which does not see that a worker thread is busy.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        checkpointer: sqlite3.Connection | None = None,
        in_thread: bool = True,
    ) -> None:
        self._connection = connection
        self._checkpointer = checkpointer
        self._in_thread = in_thread
        # None is the last: nothing follows it.
        self._queue = SimpleQueue[_Write[object] | None]()
        self._places = trio.Semaphore(MAX_WAITING_WRITES)
        self._arrived = trio.Event()  # something, if there is no thread
        self._closing = trio.Event()
        self._started = False
        self._running = False
        self._finished = trio.Event()
        self._written_since_checkpoint = 0
        self._checkpoint_due = trio.Event()
        self.commits = 0
        self.writes = 0

    async def submit(self, operation: Operation[T], changes: Changes = ()) -> T:
        """Run ``operation`` in the next transaction and return its result once that is durable.

        Args:
            changes: what of it is kept in memory, and is not while this is under way.

        If the caller is cancelled meanwhile, the write may still happen.

        Raises:
            StoreError: the operation or the commit failed, or the writer is not running.
        """
        self._require_running("the store's writer is not running")
        write = _Write(operation, changes)
        try:
            await self._places.acquire()
        except BaseException:  # cancelled while it waited for a place
            write.finish()
            raise
        try:
            self._require_running("the store is closed")
        except StoreError:
            write.finish()
            self._places.release()
            raise
        self._queue.put(cast("_Write[object]", write))
        self._arrived.set()
        await write.done.wait()
        if write.error is not None:
            raise write.error
        return cast("T", write.result)

    def _require_running(self, otherwise: str) -> None:
        if not self._running:
            raise StoreError(otherwise)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write until closed. When cancelled, commit what was already submitted, then stop."""
        if self._started:
            raise StoreError("the store's writer runs once")
        self._started = self._running = True
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._checkpoint_in_background)
                task_status.started()
                await (self._write_in_thread() if self._in_thread else self._write_here())
                nursery.cancel_scope.cancel()
        finally:
            # There is something left only after a bug. Nobody waits for ever.
            while rest := self._waiting():
                self._ended(rest, StoreError("the store's writer failed"))
            self._finished.set()

    async def aclose(self) -> None:
        """Take no more writes, finish those submitted, stop ``run``. Does not close the connections."""
        self._running = False
        self._closing.set()
        self._arrived.set()
        if self._started:
            # Shielded: it ends by itself after the writes that wait, whose number is bounded.
            with trio.CancelScope(shield=True):
                await self._finished.wait()

    async def _write_in_thread(self) -> None:
        async def work() -> None:
            with trio.CancelScope(shield=True):
                # A thread of its own: it is busy for as long as the server runs.
                await trio.to_thread.run_sync(self._work, token, limiter=trio.CapacityLimiter(1))

        token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            try:
                await self._closing.wait()
            finally:
                self._running = False
                self._queue.put(None)

    def _work(self, token: trio.lowlevel.TrioToken) -> None:
        """In the thread, until the queue ends."""

        def report(batch: Sequence[_Write[object]], failure: Exception | None) -> None:
            token.run_sync_soon(self._ended, batch, failure)

        while (first := self._queue.get()) is not None:
            self._transact(self._waiting(first), report)

    async def _write_here(self) -> None:
        try:
            while not self._closing.is_set():
                await self._arrived.wait()
                self._arrived = trio.Event()
                self._write_waiting()
        finally:
            self._running = False
            self._write_waiting()

    def _write_waiting(self) -> None:
        while batch := self._waiting():
            self._transact(batch, self._ended)

    def _waiting(self, *first: _Write[object]) -> list[_Write[object]]:
        """What waits, with what was taken ``first``, as far as one transaction may hold it."""
        batch = list(first)
        with suppress(Empty):
            while len(batch) < MAX_BATCH_WRITES:
                write = self._queue.get_nowait()
                if write is None:
                    self._queue.put(None)  # for whoever takes next
                    break
                batch.append(write)
        return batch

    def _transact(
        self,
        batch: Sequence[_Write[object]],
        report: Callable[[Sequence[_Write[object]], Exception | None], None],
    ) -> None:
        """Execute a transaction and ``report`` why it failed, if it did; in the thread, if there is one."""
        failure: Exception | None = StoreError(
            "the store's writer failed"
        )  # and a bug of ours goes on to end `run`
        try:
            self._execute(batch)
            failure = None
        except sqlite3.Error as error:
            failure = error
        finally:
            report(batch, failure)

    def _ended(self, batch: Sequence[_Write[object]], failure: Exception | None) -> None:
        """Tell who waits for a transaction what became of it; on the loop."""
        if failure is None:
            self.commits += 1
            self.writes += len(batch)
            self._note_written(len(batch))
        for write in batch:
            if failure is not None:
                write.error = _store_error(failure)
            write.finish()
            self._places.release()

    def _execute(self, batch: Sequence[_Write[object]]) -> None:
        """Raises sqlite3.Error if nothing of the transaction was kept."""
        # Failures are rare and savepoints cost a fifth of an append (SQLite keeps a copy of every page each
        # one changes). So: all together first; if one fails, all of it is undone and done again, each in a
        # savepoint.
        if not self._attempt(batch, isolated=False):
            self._attempt(batch, isolated=True)

    def _attempt(self, batch: Sequence[_Write[object]], *, isolated: bool) -> bool:
        """One transaction. False if a write failed and, not being ``isolated``, took the others with it."""
        connection = self._connection
        execute = connection.execute
        try:
            execute("BEGIN IMMEDIATE")
            transaction = Transaction(connection)
            for write in batch:
                if isolated:
                    execute("SAVEPOINT one_write")
                try:
                    write.result = write.operation(transaction)
                except FAILURES as error:
                    if not isolated:
                        return False
                    write.error = _store_error(error)
                    # SQLite ends the whole transaction by itself on some errors (disk full); then this
                    # raises.
                    execute("ROLLBACK TO one_write")
                if isolated:
                    execute("RELEASE one_write")
            execute("COMMIT")
        finally:
            if connection.in_transaction:
                execute("ROLLBACK")
        return True

    def _note_written(self, writes: int) -> None:
        self._written_since_checkpoint += writes
        if self._written_since_checkpoint >= CHECKPOINT_AFTER_WRITES:
            self._checkpoint_due.set()

    async def _checkpoint_in_background(self) -> None:
        checkpointer = self._checkpointer
        if checkpointer is None:
            return
        while True:
            await self._checkpoint_due.wait()
            self._checkpoint_due = trio.Event()
            self._written_since_checkpoint = 0
            await self._checkpoint(checkpointer)

    async def _checkpoint(self, connection: sqlite3.Connection) -> None:
        def checkpoint() -> None:
            try:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            except sqlite3.Error:
                # Losing a checkpoint loses nothing: the log keeps the data, and commits report a broken disk.
                return

        if self._in_thread:
            await trio.to_thread.run_sync(checkpoint)
        else:
            checkpoint()


def _store_error(error: Exception) -> Exception:
    """``error`` as each submitter's own StoreError."""
    if isinstance(error, StoreError):
        return type(error)(*error.args)
    wrapped = StoreError(f"the write failed: {error}")
    wrapped.__cause__ = error
    return wrapped
