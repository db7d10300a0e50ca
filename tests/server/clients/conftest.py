"""Fixtures of the client API's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.server.clients.support import Client, Server, running_server


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
