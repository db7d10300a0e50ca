"""What the commands share: options, the console, and how an error becomes a line and an exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

import click
from rich.console import Console

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
        except (ConfigError, StoreError, InvalidInput) as error:
            click.echo(f"linearized: {error}", err=True)
            sys.exit(EXIT_USAGE)
        except KeyboardInterrupt:
            sys.exit(EXIT_INTERRUPTED)

    return wrapped


def make_console() -> Console:
    """The console for tables and progress."""
    # Outside a terminal rich assumes 80 columns, which would fold room IDs.
    return Console(width=None if sys.stdout.isatty() else int(os.environ.get("COLUMNS", "140")))
