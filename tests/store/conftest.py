"""Fixtures of the store's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from linearized.store.sqlite import SqliteStore

pytest.register_assert_rewrite(
    "tests.store.contract",
    "tests.store.contract_accounts",
    "tests.store.contract_history",
    "tests.store.contract_key_packages",
    "tests.store.contract_log",
    "tests.store.contract_moving",
    "tests.store.contract_state",
)


@pytest.fixture
async def sqlite_store(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[SqliteStore]:
    """A running store on a new file."""
    store = SqliteStore.open(tmp_path / "store.sqlite3", synchronous="OFF")
    await nursery.start(store.run)
    yield store
    await store.aclose()
