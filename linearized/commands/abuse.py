"""``linearized abuse``: what users and other providers have reported."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.table import Table

from linearized.commands.common import EXIT_BROKEN, config_option, make_console, reporting
from linearized.config_file import load_config
from linearized.control import ask_server
from linearized.exceptions import MimiDecodeError
from linearized.mimi.abuse import AbuseReport, AbusiveMessage
from linearized.mimi.content import SinglePart
from linearized.mimi.media_types import read_message
from linearized.provider_files import database_path
from linearized.store.contacts import ReportRow
from linearized.store.sqlite import SqliteStore

# Shown at once; whoever has more open has to close some.
MAX_LISTED = 1000


@click.group()
def abuse() -> None:
    """Look at abuse reports, and close those that were dealt with."""


@abuse.command("list")
@config_option
@click.option("--closed", is_flag=True, help="The closed ones, which are kept for 90 days.")
@reporting
def abuse_list(*, config_file: Path, closed: bool) -> None:
    """List the open reports, oldest first.

    Proven messages are those that this server can tell it passed on, at that time, from that sender.
    """
    store = SqliteStore.open_readonly(database_path(load_config(config_file)))
    table = Table("number", "received", "accused", "room", "from", "proven", "note", box=None)
    for row in store.reports(closed=closed, limit=MAX_LISTED):
        table.add_row(
            str(row.number),
            _when(row.received_at),
            row.abuser,
            row.room_id,
            row.reporter or row.provider,
            str(row.verified),
            _printable(row.note.partition("\n")[0]),
        )
    make_console().print(table, markup=False)


@abuse.command("show")
@config_option
@click.argument("number", type=int)
@reporting
def abuse_show(*, config_file: Path, number: int) -> None:
    """Show report NUMBER with the messages in it. Exit status 1 if there is none."""
    row = SqliteStore.open_readonly(database_path(load_config(config_file))).report(number)
    if row is None:
        click.echo(f"linearized: there is no report {number}", err=True)
        sys.exit(EXIT_BROKEN)
    for line in _lines(row):
        click.echo(_printable(line))


@abuse.command("close")
@config_option
@click.argument("number", type=int)
@reporting
def abuse_close(*, config_file: Path, number: int) -> None:
    """Mark report NUMBER as dealt with. Our server must be running."""
    ask_server(load_config(config_file), "close_report", number=number)
    click.echo(f"report {number} is closed; it is removed after 90 days")


def _lines(row: ReportRow) -> list[str]:
    closed = "open" if row.closed_at is None else f"closed {_when(row.closed_at)}"
    lines = [
        f"report {row.number}, {closed}",
        f"accused   {row.abuser}",
        f"room      {row.room_id}",
        f"from      {row.reporter or 'a user that was not named'} at {row.provider}",
        f"received  {_when(row.received_at)}",
        f"reason    {row.reason_code}",
        f"note      {row.note}",
    ]
    if row.event_id:
        lines.append(f"event     {row.event_id} (its content was not given)")
    messages = AbuseReport.decode(row.report).messages if row.report else ()
    return lines + [
        f"message   {_when(message.accepted_timestamp)}  {_text(message)}" for message in messages
    ]


def _text(message: AbusiveMessage) -> str:
    try:
        part = read_message(message.message_content).part
    except MimiDecodeError:  # it was readable when it was taken; a later version may see it otherwise
        return "(cannot be read)"
    if isinstance(part, SinglePart) and part.content_type.startswith("text/"):
        return part.content.decode("utf-8", "replace")
    return f"({type(part).__name__})"


def _when(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _printable(text: str) -> str:
    """Text from strangers, without what a terminal would take for commands."""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )
