"""Which servers take part in a room."""

from __future__ import annotations

from sqlite_utils import Database

from linearized.store.migrations.chain import migrations


@migrations()
def m0028_servers_of_members(db: Database) -> None:
    """Members of a room by their server: what follows the first colon of their ID."""
    db.execute(
        "CREATE INDEX memberships_server ON memberships (room_nr, substr(user_id, instr(user_id, ':') + 1))"
    )
