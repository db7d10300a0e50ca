"""Pull followers and fan-out tokens in SQLite."""

from __future__ import annotations

from functools import partial

from linearized.store.base import FollowerRow
from linearized.store.pulling import FanoutTokenRow
from linearized.store.sqlite_reader import Reader
from linearized.store.sqlite_writer import Transaction
from linearized.store.sqlite_writes import Writes


def set_pull_follower(transaction: Transaction, *, provider: str, pulls: bool) -> None:
    """Note that a provider fetches what it follows, or that it no longer does."""
    transaction.connection.execute(
        "INSERT OR IGNORE INTO pull_followers (provider) VALUES (?)"
        if pulls
        else "DELETE FROM pull_followers WHERE provider = ?",
        (provider,),
    )


def set_pulled_hub(transaction: Transaction, *, hub: str, pulled: bool) -> None:
    """Note that we fetch from a hub that the settings do not name, or that we no longer do."""
    transaction.connection.execute(
        "INSERT OR IGNORE INTO pulled_hubs (hub) VALUES (?)"
        if pulled
        else "DELETE FROM pulled_hubs WHERE hub = ?",
        (hub,),
    )


def put_fanout_tokens(
    transaction: Transaction, *, room_id: str, provider: str, tokens: tuple[FanoutTokenRow, ...]
) -> None:
    """Keep these tokens of a provider's clients in a room, and none of those before."""
    transaction.connection.execute(
        "DELETE FROM fanout_tokens WHERE room_id = ? AND provider = ?", (room_id, provider)
    )
    transaction.connection.executemany(
        "INSERT INTO fanout_tokens (room_id, provider, client, token) VALUES (?, ?, ?, ?)",
        [(room_id, provider, row.client, row.token) for row in tokens],
    )


class PullReads(Reader):
    """The reads of ``PullStore``."""

    def fanout_tokens(self, room_id: str, provider: str) -> list[FanoutTokenRow]:
        """The tokens of a provider's clients in a room, by client."""
        rows = self._query(
            "SELECT client, token FROM fanout_tokens WHERE room_id = ? AND provider = ? ORDER BY client",
            room_id,
            provider,
        )
        return [FanoutTokenRow(client=client, token=token) for client, token in rows]

    def pull_followers(self) -> list[str]:
        """The providers that fetch what they follow, in order."""
        return [name for (name,) in self._query("SELECT provider FROM pull_followers ORDER BY provider")]

    def pulled_hubs(self) -> list[str]:
        """The hubs that we fetch from beside those in the settings, in order."""
        return [name for (name,) in self._query("SELECT hub FROM pulled_hubs ORDER BY hub")]

    def pull_cursor(self, hub: str) -> str | None:
        """The cursor that came with what we last took from a hub, or None."""
        rows = self._query("SELECT cursor FROM pull_cursors WHERE hub = ?", hub)
        return rows[0][0] if rows else None

    def followed_by(self, provider: str) -> list[FollowerRow]:
        """A provider's cursors in all rooms, oldest room first."""
        return [
            FollowerRow(room_id=room_id, provider=provider, protocol=protocol, cursor=cursor, stop_seq=stop)
            for room_id, protocol, cursor, stop in self._query(
                "SELECT room_id, protocol, cursor, stop_seq FROM followers JOIN rooms USING (room_nr)"
                " WHERE provider = ? ORDER BY room_nr, protocol",
                provider,
            )
        ]


class PullWrites(Writes):
    """The writes of this module, each durable when it returns."""

    async def set_pull_follower(self, provider: str, *, pulls: bool) -> None:
        """Note that a provider fetches what it follows, or that it no longer does."""
        await self._write(partial(set_pull_follower, provider=provider, pulls=pulls))

    async def set_pulled_hub(self, hub: str, *, pulled: bool) -> None:
        """Note that we fetch from a hub that the settings do not name, or that we no longer do."""
        await self._write(partial(set_pulled_hub, hub=hub, pulled=pulled))

    async def put_fanout_tokens(
        self, room_id: str, provider: str, tokens: tuple[FanoutTokenRow, ...]
    ) -> None:
        """Replace the tokens of a provider's clients in a room."""
        await self._write(partial(put_fanout_tokens, room_id=room_id, provider=provider, tokens=tokens))
