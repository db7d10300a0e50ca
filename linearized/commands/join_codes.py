"""``linearized room join-code``: codes by which people enter a room that this provider orders."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from linearized.commands.common import config_option, reporting
from linearized.config_file import load_config
from linearized.control import ask_server

_DAY_MS: Final = 24 * 3_600_000


@click.group("join-code")
def join_code() -> None:
    """Codes that let people into a room this server orders. The server must be running.

    USER_ID is one of our users in the room, in whose name it is done and who must be allowed to.
    """


@join_code.command("create")
@config_option
@click.argument("room_id")
@click.argument("user_id")
@click.option("--uses", type=int, default=1, show_default=True, help="How many users it lets in.")
@click.option("--days", type=int, default=1, show_default=True, help="How long it is good, at most 30.")
@reporting
def create(*, config_file: Path, room_id: str, user_id: str, uses: int, days: int) -> None:
    """Make a code for ROOM_ID. It is printed once and kept nowhere: hand it to those it is for."""
    answer = ask_server(
        load_config(config_file),
        "join_code",
        room_id=room_id,
        user_id=user_id,
        uses=uses,
        lifetime_ms=days * _DAY_MS,
    )
    click.echo(answer["code"])


@join_code.command("list")
@config_option
@click.argument("room_id")
@click.argument("user_id")
@reporting
def listing(*, config_file: Path, room_id: str, user_id: str) -> None:
    """List the codes of ROOM_ID by their IDs, with how many users each still lets in, and until when."""
    answer = ask_server(load_config(config_file), "join_codes", room_id=room_id, user_id=user_id)
    for code in answer["codes"]:
        until = datetime.fromtimestamp(code["expires_ts"] / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        click.echo(f"{code['id']} {code['uses_left']} {until}")


@join_code.command("revoke")
@config_option
@click.argument("room_id")
@click.argument("user_id")
@click.argument("code_id")
@reporting
def revoke(*, config_file: Path, room_id: str, user_id: str, code_id: str) -> None:
    """Revoke the code CODE_ID of ROOM_ID: nobody enters by it any more. Who has entered stays."""
    answer = ask_server(
        load_config(config_file), "revoke_join_code", room_id=room_id, user_id=user_id, id=code_id
    )
    click.echo(answer["text"])
