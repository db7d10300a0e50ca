"""Group commit: what shares a transaction, what fails alone, and what fails together."""

from __future__ import annotations

import math
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from linearized.exceptions import AppendConflict, StoreError
from linearized.store import sqlite_writer
from linearized.store.sqlite_writer import GroupWriter, Transaction

# Seconds after which a test that went wrong in a worker thread gives up.
PATIENCE = 10


class Disk:
    """A database with a table ``t`` and one with a constraint checked at commit; counts what is executed."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.connection.executescript(
            """
            PRAGMA journal_mode = WAL;
            PRAGMA synchronous = OFF;
            PRAGMA foreign_keys = ON;
            CREATE TABLE t (n INTEGER PRIMARY KEY);
            CREATE TABLE child (n INTEGER REFERENCES t (n) DEFERRABLE INITIALLY DEFERRED);
            """
        )
        self.statements: list[str] = []
        self.connection.set_trace_callback(self.statements.append)

    def executed(self, statement: str) -> int:
        return sum(1 for executed in self.statements if executed.startswith(statement))

    def rows(self) -> list[int]:
        return [n for (n,) in self.connection.execute("SELECT n FROM t ORDER BY n")]


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path / "t.sqlite3")


@pytest.fixture
async def writer(disk: Disk, nursery: trio.Nursery) -> AsyncIterator[GroupWriter]:
    writer = GroupWriter(disk.connection)
    await nursery.start(writer.run)
    yield writer
    await writer.aclose()


def insert(n: int, transaction: Transaction) -> int:
    transaction.connection.execute("INSERT INTO t VALUES (?)", (n,))
    return n


class Gate:
    """An operation that holds the writer in its thread until opened."""

    def __init__(self) -> None:
        self.reached = trio.Event()
        self._open = threading.Event()
        self._token = trio.lowlevel.current_trio_token()

    def __call__(self, _: Transaction) -> None:
        self._token.run_sync_soon(self.reached.set)
        assert self._open.wait(PATIENCE)

    def open(self) -> None:
        self._open.set()


async def behind(
    gate: Gate, writer: GroupWriter, *operations: Callable[[Transaction], object]
) -> list[object]:
    """Submit ``operations`` while the writer is busy, so that they wait together; what each came to."""
    outcomes: list[object] = [None] * len(operations)

    async def submit(index: int) -> None:
        try:
            outcomes[index] = await writer.submit(operations[index])
        except StoreError as error:
            outcomes[index] = error

    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.submit, gate)
        await gate.reached.wait()
        for index in range(len(operations)):
            nursery.start_soon(submit, index)
            await trio.testing.wait_all_tasks_blocked()
        gate.open()
    return outcomes


async def test_what_waits_while_a_commit_runs_shares_the_next_one(writer: GroupWriter, disk: Disk) -> None:
    outcomes = await behind(Gate(), writer, *[partial(insert, n) for n in range(20)])
    assert outcomes == list(range(20))
    assert disk.executed("COMMIT") == 2
    assert (writer.commits, writer.writes) == (2, 21)
    assert disk.rows() == list(range(20))


async def test_a_group_is_bounded(writer: GroupWriter, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_writer, "MAX_BATCH_WRITES", 8)
    await behind(Gate(), writer, *[partial(insert, n) for n in range(20)])
    assert disk.executed("COMMIT") == 1 + 3


async def test_submitters_wait_their_turn_when_too_many_writes_wait(
    disk: Disk, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_writer, "MAX_WAITING_WRITES", 3)
    writer = GroupWriter(disk.connection)
    await nursery.start(writer.run)
    assert await behind(Gate(), writer, *[partial(insert, n) for n in range(20)]) == list(range(20))
    await writer.aclose()


async def test_a_write_is_committed_before_its_submitter_wakes(writer: GroupWriter, tmp_path: Path) -> None:
    await writer.submit(partial(insert, 1))
    other = sqlite3.connect(tmp_path / "t.sqlite3")
    assert other.execute("SELECT n FROM t").fetchall() == [(1,)]
    other.close()


async def test_a_failing_write_is_undone_alone(writer: GroupWriter, disk: Disk) -> None:
    def conflict(transaction: Transaction) -> None:
        insert(100, transaction)
        raise AppendConflict("no")

    def broken(transaction: Transaction) -> None:
        insert(101, transaction)
        insert(1, transaction)

    def wrong(transaction: Transaction) -> None:
        insert(102, transaction)
        insert(2**70, transaction)

    outcomes = await behind(
        Gate(), writer, partial(insert, 1), conflict, partial(insert, 2), broken, wrong, partial(insert, 3)
    )
    assert [type(outcome) for outcome in outcomes] == [int, AppendConflict, int, StoreError, StoreError, int]
    assert disk.rows() == [1, 2, 3]
    assert disk.executed("COMMIT") == 2
    assert disk.executed("SAVEPOINT") == 6, "only the group with a failure pays for savepoints"


async def test_everybody_in_a_group_whose_commit_fails_hears_of_it(writer: GroupWriter, disk: Disk) -> None:
    def orphan(transaction: Transaction) -> None:
        transaction.connection.execute("INSERT INTO child VALUES (99)")

    outcomes = await behind(Gate(), writer, partial(insert, 1), orphan, partial(insert, 2))
    assert [type(outcome) for outcome in outcomes] == [StoreError] * 3
    assert len({id(outcome) for outcome in outcomes}) == 3, "each has its own traceback"
    assert "FOREIGN KEY" in str(outcomes[0])
    assert disk.rows() == []
    assert disk.executed("COMMIT") == 2, (
        "a failed flush is not tried again: the disk may pretend that it worked"
    )
    # The writer goes on.
    assert await writer.submit(partial(insert, 5)) == 5
    assert disk.rows() == [5]


async def test_an_error_that_ends_the_transaction_fails_the_whole_group(
    writer: GroupWriter, disk: Disk
) -> None:
    def roll_back(transaction: Transaction) -> None:
        transaction.connection.execute("INSERT OR ROLLBACK INTO t VALUES (1)")

    outcomes = await behind(Gate(), writer, partial(insert, 1), roll_back, partial(insert, 2))
    assert [type(outcome) for outcome in outcomes] == [StoreError] * 3
    assert disk.rows() == []
    assert await writer.submit(partial(insert, 5)) == 5


async def test_a_full_disk_is_a_store_error_and_the_writer_recovers(writer: GroupWriter, disk: Disk) -> None:
    def fill(transaction: Transaction) -> None:
        transaction.connection.execute("CREATE TABLE big AS SELECT zeroblob(1000000) AS b")

    disk.connection.execute("PRAGMA max_page_count = 20")
    with pytest.raises(StoreError, match="full"):
        await writer.submit(fill)
    assert await writer.submit(partial(insert, 1)) == 1
    assert disk.rows() == [1]


async def test_a_read_only_disk_is_a_store_error(disk: Disk, tmp_path: Path, nursery: trio.Nursery) -> None:
    connection = sqlite3.connect(
        f"{(tmp_path / 't.sqlite3').as_uri()}?mode=ro",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
    )
    writer = GroupWriter(connection)
    await nursery.start(writer.run)
    with pytest.raises(StoreError, match="readonly"):
        await writer.submit(partial(insert, 1))
    await writer.aclose()
    connection.close()


async def test_a_bug_in_a_write_ends_the_writer_and_leaves_nobody_waiting(disk: Disk) -> None:
    def buggy(_: Transaction) -> None:
        raise NotImplementedError

    writer = GroupWriter(disk.connection)
    outcomes: list[object] = []

    async def serve() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(writer.run)
            # The nursery is cancelled once the writer is gone; the answer must have come before.
            with trio.CancelScope(shield=True):
                outcomes.extend(await behind(Gate(), writer, partial(insert, 1), buggy))

    with pytest.raises(ExceptionGroup) as caught:
        await serve()
    assert caught.group_contains(NotImplementedError)
    assert [type(outcome) for outcome in outcomes] == [StoreError, StoreError]
    assert disk.rows() == []
    with pytest.raises(StoreError, match="not running"):
        await writer.submit(partial(insert, 1))


async def test_a_cancelled_writer_first_commits_what_was_submitted(disk: Disk) -> None:
    writer = GroupWriter(disk.connection)
    outcomes: list[object] = []

    class CancellingGate(Gate):
        """Cancels the writer before it lets it go on."""

        def open(self) -> None:
            server.cancel_scope.cancel()
            super().open()

    async def submit() -> None:
        outcomes.extend(await behind(CancellingGate(), writer, *[partial(insert, n) for n in range(5)]))

    async with trio.open_nursery() as submitters, trio.open_nursery() as server:
        await server.start(writer.run)
        submitters.start_soon(submit)
        await trio.sleep(math.inf)
    assert outcomes == list(range(5))
    assert disk.rows() == list(range(5))
    await writer.aclose()


async def test_a_writer_that_does_not_run_takes_no_writes_and_runs_once(disk: Disk) -> None:
    writer = GroupWriter(disk.connection)
    with pytest.raises(StoreError, match="not running"):
        await writer.submit(partial(insert, 1))
    async with trio.open_nursery() as nursery:
        await nursery.start(writer.run)
        with pytest.raises(StoreError, match="once"):
            await writer.run()
        await writer.aclose()
    with pytest.raises(StoreError):
        await writer.submit(partial(insert, 1))


async def test_a_cancelled_submitter_does_not_disturb_the_others(writer: GroupWriter, disk: Disk) -> None:
    gate = Gate()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.submit, gate)
        await gate.reached.wait()
        with trio.move_on_after(0):
            await writer.submit(partial(insert, 1))
        nursery.start_soon(writer.submit, partial(insert, 2))
        await trio.testing.wait_all_tasks_blocked()
        gate.open()
    assert 2 in disk.rows()


async def test_without_a_thread_a_deadline_under_a_mock_clock_does_not_pass(
    disk: Disk, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    writer = GroupWriter(disk.connection, in_thread=False)
    await nursery.start(writer.run)
    with trio.fail_after(1):
        assert await writer.submit(partial(insert, 1)) == 1
    await writer.aclose()


@pytest.mark.parametrize("in_thread", [True, False])
async def test_the_log_is_copied_back_in_the_background(
    disk: Disk, tmp_path: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, in_thread: bool
) -> None:
    monkeypatch.setattr(sqlite_writer, "CHECKPOINT_AFTER_WRITES", 10)
    checkpointer = sqlite3.connect(tmp_path / "t.sqlite3", isolation_level=None, check_same_thread=False)
    done = trio.Event()
    token = trio.lowlevel.current_trio_token()

    def traced(statement: str) -> None:
        if "wal_checkpoint(PASSIVE)" in statement:
            token.run_sync_soon(done.set)

    checkpointer.set_trace_callback(traced)
    writer = GroupWriter(disk.connection, checkpointer=checkpointer, in_thread=in_thread)
    await nursery.start(writer.run)
    for n in range(9):
        await writer.submit(partial(insert, n))
    await trio.testing.wait_all_tasks_blocked()
    assert not done.is_set()
    await writer.submit(partial(insert, 9))
    with trio.fail_after(PATIENCE):
        await done.wait()
    await writer.aclose()
    checkpointer.close()


async def test_a_checkpoint_that_fails_loses_nothing(
    disk: Disk, tmp_path: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_writer, "CHECKPOINT_AFTER_WRITES", 1)
    checkpointer = sqlite3.connect(tmp_path / "t.sqlite3", check_same_thread=False)
    checkpointer.close()
    writer = GroupWriter(disk.connection, checkpointer=checkpointer, in_thread=False)
    await nursery.start(writer.run)
    for n in range(3):
        await writer.submit(partial(insert, n))
        await trio.testing.wait_all_tasks_blocked()
    assert disk.rows() == [0, 1, 2]
    await writer.aclose()


async def test_closing_refuses_who_still_waits_for_a_place_in_the_queue(
    disk: Disk, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_writer, "MAX_WAITING_WRITES", 3)  # with the gate
    writer = GroupWriter(disk.connection)
    await nursery.start(writer.run)

    class ClosingGate(Gate):
        """Closes the writer before it lets it go on."""

        def open(self) -> None:
            nursery.start_soon(self.close_and_open)

        async def close_and_open(self) -> None:
            async with trio.open_nursery() as closing:
                closing.start_soon(writer.aclose)
                await trio.testing.wait_all_tasks_blocked()
                super().open()

    outcomes = await behind(ClosingGate(), writer, *[partial(insert, n) for n in range(4)])
    assert outcomes[:2] == [0, 1]
    assert [str(outcome) for outcome in outcomes[2:]] == ["the store is closed"] * 2
    assert disk.rows() == [0, 1]
