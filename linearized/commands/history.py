"""``linearized history``: a room's whole log, fetched and checked by a user."""

from __future__ import annotations

import secrets
import ssl
import sys
import time
from pathlib import Path

import click
import httpx
import trio
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from linearized.client import LogBroken, LogReport, ProviderApi
from linearized.client.bulk import Keys, export_jsonl, export_sqlite, pull_history
from linearized.client.bulk import Progress as ShowProgress
from linearized.client.transport import REQUEST_DEADLINE
from linearized.commands.common import EXIT_BROKEN, FILE, PATH, make_console, reporting
from linearized.exceptions import ConfigError


@click.group()
def history() -> None:
    """Read rooms as one of their users, and prove that nothing is missing."""


@history.command("pull")
@click.argument("room_id")
@click.argument("directory", type=PATH)
@click.option("--server", required=True, metavar="URL", help="The provider's client API, https://…")
@click.option("--user", required=True, help="Whose eyes to read with: a user of the provider.")
@click.option(
    "--password-file", type=FILE, metavar="FILE", help="Holds the password; asked for without this."
)
@click.option("--trusted-ca", type=FILE, metavar="FILE", help="An authority to trust besides the system's.")
@click.option("--jsonl", type=FILE, metavar="FILE", help="Also write the events as JSON Lines.")
@click.option("--sqlite", type=FILE, metavar="FILE", help="Also write the events into a new SQLite file.")
@reporting
def pull(
    *,
    room_id: str,
    directory: Path,
    server: str,
    user: str,
    password_file: Path | None,
    trusted_ca: Path | None,
    jsonl: Path | None,
    sqlite: Path | None,
) -> None:
    """Fetch all of ROOM_ID into DIRECTORY and check it: hashes, signatures, links, rules, MLS epochs, and the
    hub's signature under the whole.

    Breaking it off loses nothing: called again it goes on. Exit status 1 if the log is not as it must be.
    """
    if sqlite is not None and sqlite.exists():
        raise ConfigError(f"{sqlite} exists; name a new file")
    password = _password(password_file)
    console = make_console(stderr=True)
    columns = (TextColumn("entries"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("entries", total=None)

        async def run() -> LogReport:
            trust = ssl.create_default_context(cafile=str(trusted_ca) if trusted_ca is not None else None)
            async with httpx.AsyncClient(http2=True, verify=trust, timeout=REQUEST_DEADLINE) as http:
                api = ProviderApi(
                    server,
                    token=None,
                    http=http,
                    clock=lambda: time.time_ns() // 1_000_000,
                    ids=secrets.token_urlsafe,
                )
                return await pull_as(
                    api,
                    user,
                    password,
                    room_id,
                    directory,
                    progress=lambda done, total: bar.update(task, completed=done, total=total),
                )

        try:
            report = trio.run(run)
        except LogBroken as broken:
            click.echo(f"linearized: {room_id} is broken at {broken}", err=True)
            sys.exit(EXIT_BROKEN)
    click.echo(f"{report.entries} entries, {report.commits} commits, epoch {report.epoch}: all checked")
    if jsonl is not None:
        click.echo(f"{export_jsonl(directory, jsonl)} events in {jsonl}")
    if sqlite is not None:
        click.echo(f"{export_sqlite(directory, sqlite)} events in {sqlite}")


async def pull_as(
    api: ProviderApi, user: str, password: str, room_id: str, directory: Path, *, progress: ShowProgress
) -> LogReport:
    """Log in, pull, and log out again, whatever came of it; raises as ``pull_history``."""
    session = api.with_login(await api.login(user, password))
    try:
        return await pull_history(session, room_id, directory, keys=Keys(session), progress=progress)
    finally:
        with trio.CancelScope(shield=True):
            await session.logout()


def _password(file: Path | None) -> str:
    if file is None:
        answer: str = click.prompt("Password", hide_input=True, err=True)
        return answer
    try:
        return file.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise ConfigError(f"the password file cannot be read: {error}") from error
