"""Fixtures: the present time, a room whose hub follows every epoch, and the process of a foreign library."""

import time
from collections.abc import Iterator

import pytest

from peers.ts_mls import TsMls
from support import Room


@pytest.fixture
def now() -> int:
    """Seconds since 1970. OpenMLS reads the system clock when it checks lifetimes, so tests use it too."""
    return int(time.time())


@pytest.fixture
def ciphersuite() -> int:
    """The ciphersuite of `room`; modules that test all of them have a fixture of this name themselves."""
    return 1


@pytest.fixture
def room(now: int, ciphersuite: int) -> Room:
    """A room of one member, alice, and a hub that tracks its group."""
    return Room(now=now, ciphersuite=ciphersuite)


@pytest.fixture(scope="session")
def ts_mls() -> Iterator[TsMls]:
    """The node process with all members that ts-mls keeps."""
    process = TsMls()
    yield process
    process.close()
