"""Fixtures of the client API's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from linearized.server.clients.passwords import SALT_BYTES, hash_password
from linearized.store.base import UserRow
from tests.server.clients.support import DORA, PASSWORD, START_MS, Client, Server, running_server


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """A running provider ``a.example``."""
    async with running_server(tmp_path) as running:
        yield running


@pytest.fixture
async def alice(server: Server) -> Client:
    """A user with a device."""
    return await server.user("alice")


@pytest.fixture
async def bob(server: Server) -> Client:
    """Another user with a device."""
    return await server.user("bob")


@pytest.fixture(scope="session")
def stored() -> str:
    """Dora's password as the store keeps it, which takes long to work out."""
    return hash_password(PASSWORD, salt=bytes(range(SALT_BYTES)))


@pytest.fixture
async def laptop(server: Server, stored: str) -> Client:
    """A device of Dora's, who has a password."""
    await server.store.put_user(UserRow(user_id=DORA, password_hash=stored, created_ts=START_MS))
    return await server.user("dora", "LAPTOP")
