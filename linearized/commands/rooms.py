"""``linearized room``: looking at the rooms in a provider's database."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.table import Table

from linearized.commands.common import EXIT_BROKEN, config_option, make_console, reporting
from linearized.config import load_config
from linearized.provider_files import database_path
from linearized.room_check import BrokenLog
from linearized.room_report import verify_room
from linearized.store.sqlite import SqliteStore


@click.group()
def room() -> None:
    """Look at the rooms in a provider's database. Reads only; the server may be running."""


@room.command("list")
@config_option
@reporting
def room_list(config_file: Path) -> None:
    """List the rooms: who orders them, how long their logs are, their MLS epoch."""
    store = SqliteStore.open_readonly(database_path(load_config(config_file)))
    table = Table("room", "version", "role", "hub", "entries", "epoch", box=None)
    for row in store.rooms():
        epoch = "-" if row.epoch is None else str(row.epoch)
        table.add_row(row.room_id, row.version, row.role.value, row.hub, str(row.head_seq), epoch)
    make_console().print(table)


@room.command("verify")
@config_option
@click.argument("room_id")
@reporting
def room_verify(config_file: Path, room_id: str) -> None:
    """Check every hash, signature, link, authorisation and MLS epoch of ROOM_ID's log.

    Exit status 1 on the first thing that is not as it must be, naming the entry.
    """
    config = load_config(config_file)

    try:
        verify_room(config, room_id, make_console())
    except BrokenLog as broken:
        click.echo(f"linearized: {room_id} is broken at {broken}", err=True)
        sys.exit(EXIT_BROKEN)
