"""Fixtures: the present time and a room whose hub follows every epoch."""

import time

import pytest

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
