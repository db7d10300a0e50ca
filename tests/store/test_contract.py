"""The contract, run against each implementation."""

from __future__ import annotations

import pytest

from linearized.store.base import Store
from linearized.store.sqlite import SqliteStore
from tests.store.contract import StoreContract


class TestSqliteStoreKeepsTheContract(StoreContract):
    """SQLite."""

    @pytest.fixture
    def store(self, sqlite_store: SqliteStore) -> Store:
        return sqlite_store
