"""What the commands share: options, the console, and how an error becomes a line and an exit status."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

import click
import trio
from rich.console import Console

from linearized.client import ClientError
from linearized.exceptions import ConfigError, InvalidInput, StoreError

P = ParamSpec("P")
R = TypeVar("R")

EXIT_BROKEN = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

PATH = click.Path(path_type=Path)
FILE = click.Path(path_type=Path, dir_okay=False)

config_option = click.option(
    "--config",
    "config_file",
    type=FILE,
    required=True,
    metavar="FILE",
    help="The provider's linearized.toml.",
)


def reporting(function: Callable[P, R]) -> Callable[P, R]:
    """Turn the errors an operator can do something about into one line and exit status 2."""

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except (ConfigError, StoreError, InvalidInput, ClientError) as error:
            click.echo(f"linearized: {error}", err=True)
            sys.exit(EXIT_USAGE)
        except BaseExceptionGroup as group:
            # A nursery wraps what its tasks raise; one expected error in it is still one line.
            only = _only(group)
            if not isinstance(only, (ConfigError, StoreError, InvalidInput, ClientError)):
                raise
            click.echo(f"linearized: {only}", err=True)
            sys.exit(EXIT_USAGE)
        except KeyboardInterrupt:
            sys.exit(EXIT_INTERRUPTED)

    return wrapped


def _only(error: BaseException) -> BaseException:
    """What a group of one, of one, … holds; the group if there are several."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def make_console(*, stderr: bool = False) -> Console:
    """The console for tables and progress."""
    stream = sys.stderr if stderr else sys.stdout
    # Outside a terminal rich assumes 80 columns, which would fold room IDs.
    width = None if stream.isatty() else int(os.environ.get("COLUMNS", "140"))
    return Console(stderr=stderr, width=width)


async def until_signalled(work: Callable[[], Awaitable[None]]) -> None:
    """Run ``work`` until it ends, or is cancelled by SIGTERM or SIGINT."""
    async with trio.open_nursery() as nursery:
        await nursery.start(_cancel_on_signal, nursery.cancel_scope)
        await work()
        nursery.cancel_scope.cancel()


async def _cancel_on_signal(scope: trio.CancelScope, *, task_status: trio.TaskStatus[None]) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
        task_status.started()
        async for _ in received:
            scope.cancel()
