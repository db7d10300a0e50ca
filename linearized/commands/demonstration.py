"""``linearized demo``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from linearized.commands.common import PATH, make_console, reporting
from linearized.demo.main import run_demo


@click.command()
@click.option(
    "--once", is_flag=True, help="Check everything, stop, and say by the exit status whether all held."
)
@click.option(
    "--dir",
    "directory",
    type=PATH,
    default=Path("demo-data"),
    show_default=True,
    metavar="DIR",
    help="Where databases, keys and logs go; emptied first.",
)
@reporting
def demo(once: bool, directory: Path) -> None:
    """Bridge a real homeserver's room and let a MIMI provider take part, all on this machine.

    Needs a homeserver and matrix-nio in environments of their own: `make demo` makes them and calls this.
    """
    sys.exit(run_demo(directory, once=once, console=make_console()))
