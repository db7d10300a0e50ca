"""The MLS states of bridged users in the database, and whether it holds any secrets."""

from __future__ import annotations

from bridges.matrix.database import Database
from linearized.client import SEALED


def unsealed_states(database: Database) -> list[str]:
    """The users whose saved MLS state is in the clear."""
    rows = database.all("SELECT user_id FROM devices WHERE substr(state, 1, ?) <> ?", len(SEALED), SEALED)
    return [row["user_id"] for row in rows]


def has_secrets(database: Database) -> bool:
    """Whether the database holds anything encrypted with the storage key."""
    found = database.first(
        "SELECT 1 FROM crypto_accounts UNION ALL SELECT 1 FROM doubles UNION ALL SELECT 1 FROM kept "
        "UNION ALL SELECT 1 FROM devices WHERE substr(state, 1, ?) = ? LIMIT 1",
        len(SEALED),
        SEALED,
    )
    return found is not None


class DeviceStorage:
    """The saved MLS state of one bridged user, as ``linearized.client.StateStorage`` wants it."""

    def __init__(self, database: Database, user_id: str) -> None:
        self._database = database
        self._user_id = user_id

    def load(self) -> bytes | None:
        """The state saved last."""
        row = self._database.first("SELECT state FROM devices WHERE user_id = ?", self._user_id)
        return None if row is None else bytes(row["state"])

    def save(self, data: bytes) -> None:
        """Replace the state; durable on return."""
        self._database.run(
            "INSERT INTO devices (user_id, state) VALUES (?, ?) "
            "ON CONFLICT (user_id) DO UPDATE SET state = excluded.state",
            self._user_id,
            data,
        )
