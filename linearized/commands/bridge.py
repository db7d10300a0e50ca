"""``linearized bridge``: connecting a Matrix homeserver. No other module of ``linearized`` loads a bridge."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

import click
import trio
from rich.progress import Progress, TaskID
from rich.table import Table

from bridges.matrix.checks import Check, Outcome
from bridges.matrix.config import load_bridge_config
from bridges.matrix.process import run_checks, run_import, run_unbridge
from bridges.matrix.registration import write_registration
from bridges.matrix.several import run_bridges
from bridges.matrix.status import bridged_rooms
from linearized.bridge_files import SETTINGS, BridgePlan, create_bridge
from linearized.commands.common import EXIT_BROKEN, FILE, PATH, make_console, reporting, until_signalled
from linearized.config_file import load_config

REGISTRATION = "registration.yaml"

bridge_option = click.option(
    "--config", "config_file", type=FILE, required=True, metavar="FILE", help="The bridge's bridge.toml."
)


@click.group()
def bridge() -> None:
    """Bridge a Matrix homeserver: its rooms, members and history."""


@bridge.command("init")
@click.argument("directory", type=PATH)
@click.option(
    "--provider",
    type=FILE,
    prompt="The provider's settings (linearized.toml)",
    metavar="FILE",
    help="The provider's linearized.toml, made with --bridge. Asked for if it is left out.",
)
@click.option(
    "--homeserver",
    prompt="The homeserver's client API, as this machine reaches it (http://… or https://…)",
    metavar="URL",
    help="The homeserver's client API, from here. Asked for if it is left out.",
)
@click.option(
    "--domain",
    metavar="DOMAIN",
    help="The homeserver's domain, if the provider bridges several; then asked for.",
)
@click.option("--provider-url", metavar="URL", help="The provider, from here; by default where it listens.")
@click.option(
    "--listen",
    default="127.0.0.1:9009",
    show_default=True,
    metavar="HOST:PORT",
    help="Where the homeserver reaches the bridge.",
)
@click.option("--url", metavar="URL", help="The same as the homeserver has to say it, if it is elsewhere.")
@reporting
def bridge_init(
    *,
    directory: Path,
    provider: Path,
    homeserver: str,
    domain: str | None,
    provider_url: str | None,
    listen: str,
    url: str | None,
) -> None:
    """Make a bridge in DIRECTORY: settings, tokens, and the registration the homeserver has to load.

    Then look whether both sides answer, and say what to do next. `linearized bridge check` looks again.
    """
    served = load_config(provider)
    domains = [name for entry in served.bridges for name in entry.domains]
    if domain is None and len(domains) > 1:
        domain = click.prompt("The homeserver's domain", type=click.Choice(domains))
    plan = BridgePlan(
        homeserver_url=homeserver, domain=domain, provider_url=provider_url, listen=listen, url=url
    )
    settings = create_bridge(directory, served, plan)
    config = load_bridge_config(settings)
    registration = (directory / REGISTRATION).resolve()
    write_registration(config, registration)
    click.echo(f"made {settings}")
    click.echo(f"made {registration}; with Synapse, homeserver.yaml needs:")
    click.echo(f"  app_service_config_files: [{json.dumps(str(registration))}]")
    if not _show(trio.run(run_checks, config)):
        click.echo(f"when that is done: linearized bridge check --config {settings}")
        return
    click.echo(f"next: linearized bridge run --config {settings}")
    click.echo(f"then invite {config.names.bot} to a room")
    click.echo(
        "for another homeserver: give the provider another [[bridges]] entry, with its domain, and a token"
        " and a bot of its own; make a bridge in another directory, with --domain; one process runs both:"
    )
    click.echo(f"  linearized bridge run --config {settings} --config OTHER/{SETTINGS}")


@bridge.command("check")
@bridge_option
@reporting
def bridge_check(*, config_file: Path) -> None:
    """Ask both sides whether they are there and know the bridge; exit status 1 if something is wrong.

    Works beside a running bridge, and without one.
    """
    if not _show(trio.run(run_checks, load_bridge_config(config_file))):
        sys.exit(EXIT_BROKEN)


def _show(checks: list[Check]) -> bool:
    """Print a line for each check and one for what to do; whether nothing failed."""
    for check in checks:
        click.echo(f"{check.outcome:<8}{check.name}: {check.found}")
        if check.next_step:
            click.echo(f"        -> {check.next_step}")
    return all(check.outcome is not Outcome.FAILED for check in checks)


@bridge.command("registration")
@bridge_option
@click.argument("output", type=FILE)
@reporting
def bridge_registration(*, config_file: Path, output: Path) -> None:
    """Write the registration file OUTPUT that the homeserver's settings have to name.

    It holds the tokens: readable by its owner only. With Synapse, list it in app_service_config_files.
    """
    write_registration(load_bridge_config(config_file), output)
    click.echo(f"wrote {output}")


@bridge.command("run")
@click.option(
    "--config",
    "config_files",
    type=FILE,
    required=True,
    multiple=True,
    metavar="FILE",
    help="The bridge's bridge.toml; once for each homeserver.",
)
@reporting
def bridge_run(*, config_files: tuple[Path, ...]) -> None:
    """Run the bridge until it is told to stop (SIGTERM or Ctrl-C).

    With several --config, run a bridge for each homeserver: what is wrong with one is logged and tried again,
    and the others go on.
    """
    configs = [load_bridge_config(file) for file in config_files]
    trio.run(until_signalled, partial(run_bridges, configs))


@bridge.command("import")
@bridge_option
@click.argument("room", metavar="ROOM")
@reporting
def bridge_import(*, config_file: Path, room: str) -> None:
    """Bridge the Matrix room ROOM, an ID or an alias: its state, members and history.

    The bridge must be stopped. Invite its bot to the room first, unless anyone may join. An import that was
    interrupted goes on where it was. A running bridge does the same for every room its bot is invited to.
    """
    _import(config_file, room)


@bridge.group("room")
def bridge_room() -> None:
    """The rooms that are bridged. While the bridge runs, tell its bot in Matrix: `!mimi help`."""


@bridge_room.command("add")
@bridge_option
@click.argument("room", metavar="ROOM")
@reporting
def bridge_room_add(*, config_file: Path, room: str) -> None:
    """Bridge the Matrix room ROOM, an ID or an alias; the same as `linearized bridge import`."""
    _import(config_file, room)


@bridge_room.command("remove")
@bridge_option
@click.argument("room", metavar="ROOM")
@reporting
def bridge_room_remove(*, config_file: Path, room: str) -> None:
    """Part the two sides of ROOM again; both stay usable. The bridge must be stopped."""
    room_id = trio.run(run_unbridge, load_bridge_config(config_file), room)
    click.echo(f"{room_id} is no longer bridged")


@bridge_room.command("list")
@bridge_option
@reporting
def bridge_room_list(*, config_file: Path) -> None:
    """List the bridged rooms; also beside a running bridge."""
    table = Table("Matrix room", "room", "phase", "imported", "left out", "refused", "waiting", "set aside")
    for status in bridged_rooms(load_bridge_config(config_file)):
        counts = (status.imported, status.left_out, status.failed, status.waiting, status.aside)
        table.add_row(status.matrix_room_id, status.room_id or "-", status.phase, *map(str, counts))
    make_console().print(table)


def _import(config_file: Path, room: str) -> None:
    config = load_bridge_config(config_file)
    with Progress(console=make_console(stderr=True), transient=True) as progress:
        tasks: dict[str, TaskID] = {}

        def show(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = progress.add_task(step, total=total)
            progress.update(tasks[step], completed=done, total=total)

        report = trio.run(run_import, config, room, show)
    click.echo(f"{report.room_id}")
    click.echo(
        f"{report.imported} events imported, {report.left_out} left out, {report.failed} refused by the"
        f" provider, {report.members} members with MLS clients",
        err=True,
    )
    if report.failed:
        sys.exit(EXIT_BROKEN)
