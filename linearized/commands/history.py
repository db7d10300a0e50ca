"""``linearized history``: a room's whole log, fetched and checked by a user."""

from __future__ import annotations

import secrets
import ssl
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import click
import httpx
import trio
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from linearized.client import LogBroken, LogReport, ProviderApi
from linearized.client.bulk import Keys, RoomHistory
from linearized.client.offline import HistoryStore, export_jsonl, export_sqlite
from linearized.client.transport import REQUEST_DEADLINE
from linearized.commands.common import EXIT_BROKEN, FILE, make_console, reporting, until_signalled
from linearized.exceptions import ConfigError
from linearized.garbage import collecting_rarely

EXPORTS: Final[Mapping[str, Callable[[HistoryStore, str, Path], int]]] = {
    ".jsonl": export_jsonl,
    ".sqlite": export_sqlite,
}


@click.group()
def history() -> None:
    """Read rooms as one of their users, and prove that nothing is missing."""


@history.command("pull")
@click.argument("room_id")
@click.argument("store_file", type=FILE, metavar="STORE")
@click.option("--server", required=True, metavar="URL", help="The provider's client API, https://…")
@click.option("--user", required=True, help="Whose eyes to read with: a user of the provider.")
@click.option(
    "--password-file", type=FILE, metavar="FILE", help="Holds the password; asked for without this."
)
@click.option("--trusted-ca", type=FILE, metavar="FILE", help="An authority to trust besides the system's.")
@click.option(
    "--export",
    "exports",
    type=FILE,
    metavar="FILE",
    multiple=True,
    help="Also write the events, as JSON Lines (.jsonl) or into a new SQLite file (.sqlite).",
)
@click.option("--follow", is_flag=True, help="Then go on with what comes, until interrupted.")
@reporting
def pull(
    *,
    room_id: str,
    store_file: Path,
    server: str,
    user: str,
    password_file: Path | None,
    trusted_ca: Path | None,
    exports: tuple[Path, ...],
    follow: bool,
) -> None:
    """Fetch all of ROOM_ID into the SQLite file STORE, which may hold other rooms too, and check it: hashes,
    signatures, links, rules, MLS epochs, and the hub's signature under the whole.

    Breaking it off loses nothing: called again it goes on. Exit status 1 if the log is not as it must be.
    """
    for target in exports:
        if target.suffix not in EXPORTS:
            raise ConfigError(f"{target}: an export ends in {' or '.join(EXPORTS)}")
        if target.suffix != ".jsonl" and target.exists():
            raise ConfigError(f"{target} exists; name a new file")
    password = _password(password_file)
    console = make_console(stderr=True)
    columns = (TextColumn("entries"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with HistoryStore(store_file) as store:
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("entries", total=None)

            def show(done: int, total: int) -> None:
                bar.update(task, completed=done, total=total)

            async def run() -> None:
                trust = ssl.create_default_context(cafile=str(trusted_ca) if trusted_ca is not None else None)
                async with (
                    httpx.AsyncClient(http2=True, verify=trust, timeout=REQUEST_DEADLINE) as http,
                    httpx.AsyncClient(verify=trust, timeout=REQUEST_DEADLINE) as stream,
                ):
                    api = ProviderApi(
                        server,
                        token=None,
                        http=http,
                        clock=lambda: time.time_ns() // 1_000_000,
                        ids=secrets.token_urlsafe,
                    )
                    async with logged_in(api, user, password) as session:
                        history = RoomHistory(session, room_id, store, keys=Keys(session))
                        report = await history.pull(progress=show)
                        click.echo(summary(report))
                        if follow:
                            await until_signalled(partial(_follow, history, stream))

            try:
                with collecting_rarely():
                    trio.run(run)
            except LogBroken as broken:
                click.echo(f"linearized: {room_id} is broken at {broken}", err=True)
                sys.exit(EXIT_BROKEN)
        for target in exports:
            click.echo(f"{EXPORTS[target.suffix](store, room_id, target)} events in {target}")


def summary(report: LogReport) -> str:
    """What a pull found, in a line."""
    return f"{report.entries} entries, {report.commits} commits, epoch {report.epoch}: all checked"


async def _follow(history: RoomHistory, http: httpx.AsyncClient) -> None:
    async with history.follow(http=http) as entries:
        async for event in entries:
            click.echo(f"{history.report.entries} {event.type} {event.sender}: checked")


@asynccontextmanager
async def logged_in(api: ProviderApi, user: str, password: str) -> AsyncIterator[ProviderApi]:
    """The API with a session of its own, which is ended again, whatever came of it."""
    session = api.with_login(await api.login(user, password))
    try:
        yield session
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
