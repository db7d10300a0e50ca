"""``linearized init``, ``serve``, ``user`` and ``keys``: making and running a provider."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TextIO

import click
import trio

from linearized.accounts import create_account
from linearized.commands.common import PATH, config_option, reporting
from linearized.config_file import load_config
from linearized.exceptions import ConfigError
from linearized.own_keys import rotate
from linearized.provider_files import SETTINGS, ProviderPlan, create_provider, database_path
from linearized.server.gateway_keys import rotate_gateway_keys
from linearized.server.run import serve as run
from linearized.store.sqlite_lock import ServerLock


@click.command()
@click.argument("directory", type=PATH)
@click.option(
    "--server-name", required=True, metavar="NAME", help="The domain of the provider, e.g. a.example."
)
@click.option(
    "--listen", default="127.0.0.1:8448", show_default=True, metavar="HOST:PORT", help="All faces, TLS."
)
@click.option("--client", metavar="HOST:PORT", help="Also serve the client API without TLS here.")
@click.option(
    "--dev-ca",
    type=PATH,
    metavar="DIR",
    help="For development: issue the certificate from the authority in DIR (made when missing).",
)
@click.option(
    "--bridge", "bridged", multiple=True, metavar="DOMAIN", help="A homeserver whose users a bridge acts for."
)
@click.option(
    "--peer", "peers", multiple=True, metavar="NAME=HOST:PORT", help="Reach server NAME at this address."
)
@reporting
def init(
    *,
    directory: Path,
    server_name: str,
    listen: str,
    client: str | None,
    dev_ca: Path | None,
    bridged: tuple[str, ...],
    peers: tuple[str, ...],
) -> None:
    """Make a provider in DIRECTORY: settings, signing key, and what it needs to start."""
    plan = ProviderPlan(
        server_name=server_name,
        listen=listen,
        client=client,
        dev_ca=dev_ca,
        bridged_domains=bridged,
        peers=dict(_pair(peer) for peer in peers),
    )
    config = create_provider(directory, plan)
    click.echo(f"made {config.server_name} in {directory}")
    if dev_ca is None:
        click.echo(f"put its certificate at {config.tls.certificate} and the key at {config.tls.key}")
    click.echo(f"start it with: linearized serve --config {directory / SETTINGS}")


def _pair(text: str) -> tuple[str, str]:
    name, separator, address = text.partition("=")
    if not separator or not name or not address:
        raise ConfigError(f"--peer: expected NAME=HOST:PORT, not {text!r}")
    return name, address


@click.command()
@config_option
@reporting
def serve(config_file: Path) -> None:
    """Run the provider until it is told to stop (SIGTERM or Ctrl-C)."""
    trio.run(run, load_config(config_file))


@click.group()
def user() -> None:
    """Accounts of the provider itself (bridged users need none)."""


@user.command("create")
@config_option
@click.argument("name")
@click.option(
    "--password-file",
    type=click.File("r"),
    required=True,
    metavar="FILE",
    help="File whose first line is the password; - reads standard input.",
)
@reporting
def user_create(*, config_file: Path, name: str, password_file: TextIO) -> None:
    """Create the account NAME (a localpart such as alice). The server must be stopped."""
    config = load_config(config_file)
    user_id = create_account(config, database_path(config), name, password_file.readline().rstrip("\r\n"))
    click.echo(user_id)


@click.group()
def keys() -> None:
    """The keys the provider signs with."""


@keys.command("rotate-gateway")
@config_option
@reporting
def keys_rotate_gateway(config_file: Path) -> None:
    """Make a new key for oblivious requests. The server must be stopped.

    A running server does so by itself every so often (keys.gateway_days). The present key still opens what
    clients seal to it for a day.
    """
    config = load_config(config_file)
    lock = ServerLock(database_path(config))
    try:
        new = rotate_gateway_keys(config.data_dir, now_ms=time.time_ns() // 1_000_000)
    finally:
        lock.release()
    click.echo(f"{config.server_name} now offers gateway key {new.key_id}")


@keys.command("rotate")
@config_option
@reporting
def keys_rotate(config_file: Path) -> None:
    """Make a new signing key and retire the present one. The server must be stopped.

    The retired key's public half is published, so that what it signed stays verifiable.
    """
    config = load_config(config_file)
    lock = ServerLock(database_path(config))  # a running server would go on signing with the retired key
    try:
        new, retired = rotate(config.data_dir, now=int(time.time() * 1000))
    finally:
        lock.release()
    click.echo(f"{config.server_name} now signs with {new.key_id}; {retired.key_id} is retired")
