"""``linearized room verify``: opens the database, runs the check with progress, prints what was checked."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from linearized.config import Config
from linearized.own_keys import load_retired_keys
from linearized.protocol.signing import ServerIdentity
from linearized.provider_files import database_path, load_signing_key
from linearized.room_check import KeyLookup, RoomReport, check_room
from linearized.server.mls import OpenMls
from linearized.store.base import Store
from linearized.store.sqlite import SqliteStore


def verify_room(config: Config, room_id: str, console: Console) -> RoomReport:
    """Check a room's log in the database of ``config`` and print a table of what was checked.

    Raises:
        BrokenLog: something is not as it must be.
        ConfigError, StoreError, InvalidInput: it could not be checked at all.
    """
    own = ServerIdentity(config.server_name, load_signing_key(config), load_retired_keys(config.data_dir))
    store = SqliteStore.open_readonly(database_path(config))
    began = time.monotonic()
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("entries", total=None)
        report = check_room(
            store,
            room_id,
            keys=known_keys(store, config.server_name, own.verify_keys),
            mls=OpenMls(lambda: int(time.time() * 1000)),
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    console.print(report_table(report, time.monotonic() - began))
    return report


def known_keys(store: Store, server_name: str, own: Mapping[str, bytes]) -> KeyLookup:
    """Our own keys from the key files, others' as the server has seen and kept them."""
    seen: dict[str, Mapping[str, bytes]] = {server_name: own}

    def lookup(server: str, key_id: str) -> bytes | None:
        if server not in seen:
            seen[server] = {row.key_id: row.key for row in store.server_keys(server)}
        return seen[server].get(key_id)

    return lookup


def report_table(report: RoomReport, seconds: float) -> Table:
    """What was checked, for people."""
    table = Table(title=f"{report.room_id} holds", title_justify="left", show_header=False, box=None)
    table.add_row("room version", report.version)
    table.add_row("hub", report.hub)
    table.add_row("entries: ID, link, hash, authorisation", str(report.entries))
    table.add_row("signatures", str(report.signatures))
    table.add_row("events the hub vouches for", f"{report.vouched} ({report.imported} imported)")
    table.add_row("commits staged and merged", str(report.commits))
    table.add_row(
        "MLS epoch and clients", f"{report.epoch if report.epoch is not None else '-'}, {report.leaves}"
    )
    table.add_row("ciphertexts in their epoch", str(report.ciphertexts))
    table.add_row("time", f"{seconds:.2f} s, {report.entries / max(seconds, 1e-6):.0f} entries/s")
    return table
