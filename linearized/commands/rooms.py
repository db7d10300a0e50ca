"""``linearized room``: looking at the rooms in a provider's database."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.table import Table

from linearized.commands.common import EXIT_BROKEN, FILE, PATH, config_option, make_console, reporting
from linearized.commands.join_codes import join_code
from linearized.config_file import load_config
from linearized.control import ask_server
from linearized.exceptions import ConfigError, InvalidInput
from linearized.proof_files import parse_key, read_proof, write_proofs
from linearized.provider_files import database_path
from linearized.room.evidence import verify_equivocation
from linearized.room_check import BrokenLog
from linearized.room_report import verify_room
from linearized.store.history import FindingRow
from linearized.store.sqlite import SqliteStore


def _one(findings: list[FindingRow], digest: str) -> FindingRow:
    found = [row for row in findings if row.digest.startswith(digest)]
    if len(found) != 1:
        raise ConfigError(f"{len(found)} findings begin with {digest!r}")
    return found[0]


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


@click.group()
def room() -> None:
    """Look at the rooms in a provider's database, while the server runs or not; hand one over."""


room.add_command(join_code)


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
    findings = SqliteStore.open_readonly(database_path(config)).findings(room_id)
    found = [row for row in findings if row.dismissed_at is None]
    try:
        verify_room(config, room_id, make_console())
    except BrokenLog as broken:
        click.echo(f"linearized: {room_id} is broken at {broken}", err=True)
        sys.exit(EXIT_BROKEN)
    if found:
        click.echo(f"linearized: {len(found)} findings about its hub, see `room findings`", err=True)
        sys.exit(EXIT_BROKEN)


@room.command("findings")
@config_option
@click.argument("room_id", required=False)
@click.option("--all", "everything", is_flag=True, help="Dismissed ones, too.")
@click.option(
    "--show", metavar="DIGEST", help="Instead, print the document of one, by how its digest begins."
)
@click.option("--write", type=PATH, metavar="DIR", help="Also write each proof into a file in DIR.")
@reporting
def room_findings(
    *, config_file: Path, room_id: str | None, everything: bool, show: str | None, write: Path | None
) -> None:
    """List what was found wrong with the hubs of ROOM_ID, or of all rooms.

    A proof holds for anybody who has the hub's public key (see verify-proof). A suspicion is what this server
    saw, and only its word for it.
    """
    findings = SqliteStore.open_readonly(database_path(load_config(config_file))).findings(room_id)
    if show is not None:
        click.echo(_one(findings, show).document)
        return
    listed = [found for found in findings if everything or found.dismissed_at is None]
    table = Table("found", "room", "hub", "kind", "what", "dismissed", "digest", box=None)
    for found in listed:
        kind = "proof" if found.proven else "suspicion"
        done = _time(found.dismissed_at) if found.dismissed_at is not None else "-"
        when = _time(found.found_at)
        table.add_row(when, found.room_id, found.hub, kind, found.reason, done, found.digest[:16])
    make_console().print(table)
    if write is not None:
        for path in write_proofs(listed, write):
            click.echo(path)


@room.command("dismiss")
@config_option
@click.argument("digest")
@reporting
def room_dismiss(*, config_file: Path, digest: str) -> None:
    """Close the suspicion whose digest begins with DIGEST, once you know its cause.

    Our server must be running. It is kept, and opened again if the same is found again.
    """
    answer = ask_server(load_config(config_file), "dismiss", digest=digest)
    click.echo(f"the suspicion about {answer['hub']} in {answer['room_id']} is closed")


@room.command("resume")
@config_option
@click.argument("room_id")
@reporting
def room_resume(*, config_file: Path, room_id: str) -> None:
    """Go on with ROOM_ID, which a proof against its hub has stopped. Our server must be running.

    You trust the hub again with this: what it signed before is not held against it any more. A participant
    that still holds what the hub signed before will show it to us, and the room stops again.
    """
    answer = ask_server(load_config(config_file), "resume", room_id=room_id)
    click.echo(f"{room_id} goes on; {answer['findings']} findings about its hub are closed")


@room.command("transfer")
@config_option
@click.argument("room_id")
@click.argument("hub")
@reporting
def room_transfer(*, config_file: Path, room_id: str, hub: str) -> None:
    """Hand ROOM_ID over to the server HUB, which orders it from then on. Our server must be running.

    HUB takes part in the room already, and one of its users has the power level for m.room.hub there. It
    copies and checks the whole log first; the room goes on meanwhile.
    """
    config = load_config(config_file)
    answer = ask_server(config, "transfer", room_id=room_id, hub=hub)
    click.echo(f"{room_id} is ordered by {hub} from {answer['event_id']} on")


@room.group("takeover")
def takeover() -> None:
    """Take a room over from a hub that is gone for good, or agree that another server does."""


_gone = click.option(
    "--hub-is-gone",
    is_flag=True,
    help="Also if the hub answers: you know that it will not order the room.",
)


_loss = click.option(
    "--accept-loss",
    is_flag=True,
    help="Also if entries are lost that the hub signed and that no server has any more.",
)


@takeover.command("take")
@config_option
@click.argument("room_id")
@_gone
@_loss
@reporting
def takeover_take(*, config_file: Path, room_id: str, hub_is_gone: bool, accept_loss: bool) -> None:
    """Order ROOM_ID from now on, in the place of its hub. Our server must be running.

    One of our users is joined with the power level for m.room.hub, our copy of the log is complete, and more
    than half of the servers in the room, ours among them and the hub not, have agreed.
    """
    answer = ask_server(
        load_config(config_file),
        "takeover",
        room_id=room_id,
        hub_is_gone=_yes(hub_is_gone),
        accept_loss=_yes(accept_loss),
    )
    click.echo(f"{room_id} is ordered here from {answer['event_id']} on")


@takeover.command("accept")
@config_option
@click.argument("room_id")
@click.argument("server")
@_gone
@_loss
@reporting
def takeover_accept(
    *, config_file: Path, room_id: str, server: str, hub_is_gone: bool, accept_loss: bool
) -> None:
    """Agree that SERVER takes ROOM_ID over from its hub. Our server must be running.

    From then on nothing is taken from the hub, nor sent to it. Ask the other operators first: servers that
    follow different successors are in different rooms. On the hub itself, once it is back: follow SERVER.
    """
    config = load_config(config_file)
    answer = ask_server(
        config,
        "takeover_accept",
        room_id=room_id,
        taker=server,
        hub_is_gone=_yes(hub_is_gone),
        accept_loss=_yes(accept_loss),
    )
    click.echo(answer["text"])


@takeover.command("withdraw")
@config_option
@click.argument("room_id")
@reporting
def takeover_withdraw(*, config_file: Path, room_id: str) -> None:
    """Take back that a server may take ROOM_ID over, and go on with its hub. Our server must be running."""
    answer = ask_server(load_config(config_file), "takeover_withdraw", room_id=room_id)
    click.echo(f"{answer['taker']} may not take {room_id} over any more")


def _yes(flag: bool) -> str:
    return "yes" if flag else "no"


@room.command("verify-proof")
@click.argument("file", type=FILE)
@click.option(
    "--key",
    "keys",
    multiple=True,
    required=True,
    metavar="ed25519:KEY",
    help="The hub's public key, base64, from a source you trust. May be repeated.",
)
@reporting
def room_verify_proof(*, file: Path, keys: tuple[str, ...]) -> None:
    """Check a proof that a hub told two histories of a room. Needs no settings and no database.

    Exit status 1 if it proves nothing.
    """
    document = read_proof(file)
    known = {str(number): parse_key(key) for number, key in enumerate(keys)}
    try:
        proof = verify_equivocation(document, known)
    except InvalidInput as error:
        click.echo(f"linearized: {file} proves nothing: {error}", err=True)
        sys.exit(EXIT_BROKEN)
    click.echo(
        f"{proof.hub} signed two histories of {proof.room_id}, which differ in the first {proof.size} entries"
    )
