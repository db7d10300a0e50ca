"""Pseudonyms for tests, and who members see behind them."""

from __future__ import annotations

from linearized.client import (
    MemoryStorage,
    PseudonymousSession,
    new_pseudonym,
)
from tests.client.test_real_server import Club
from tests.server.support import Server

# Names that turn up nowhere by chance.
ALICE, BOB, CAROL = "alicendrina", "bobolinkus", "carolingia"


async def pseudonym(club: Club, server: Server, localpart: str) -> PseudonymousSession:
    """A pseudonym of a user of that server."""
    return await new_pseudonym(await club.device(server, localpart), MemoryStorage())


async def names(session: PseudonymousSession, room_id: str) -> list[str | None]:
    """The real users whom a member sees, leaf by leaf."""
    clients = await session.identities(room_id)
    return [None if client.real is None else client.real.user_id for client in clients]


async def faults(session: PseudonymousSession, room_id: str) -> list[str]:
    """Why a member does not believe some, leaf by leaf."""
    return [client.fault for client in await session.identities(room_id) if client.fault is not None]
