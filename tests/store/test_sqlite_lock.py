"""One server per database file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from linearized.exceptions import StoreError
from linearized.store.sqlite_lock import ServerLock


def test_a_second_server_is_refused_and_told_who_holds_the_lock(tmp_path: Path) -> None:
    database = tmp_path / "store.sqlite3"
    lock = ServerLock(database)
    with pytest.raises(StoreError, match=f"in use by another server \\(process {os.getpid()}\\)"):
        ServerLock(database)
    lock.release()
    lock.release()
    ServerLock(database).release()


def test_databases_in_one_directory_do_not_disturb_each_other(tmp_path: Path) -> None:
    first = ServerLock(tmp_path / "a.sqlite3")
    second = ServerLock(tmp_path / "b.sqlite3")
    first.release()
    second.release()


def test_a_directory_that_is_missing_is_a_store_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot create the lock file"):
        ServerLock(tmp_path / "nowhere" / "store.sqlite3")
