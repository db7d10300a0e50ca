"""The ``linearized`` command. Each command parses, calls one function elsewhere, and prints what came out.

Exit status: 0 done; 1 what was to be checked does not hold; 2 the command line or the settings are wrong;
130 interrupted. A command's module is imported when the command is asked for: a running server does not
carry the demonstration, and nothing but ``linearized bridge`` loads a bridge.
"""

from __future__ import annotations

from importlib import import_module

import click

from linearized import __version__

_EXIT_HELP = "Exit status: 0 done, 1 a check failed, 2 wrong command line or settings, 130 interrupted."

# command: module and attribute, in the order of the help text
_COMMANDS = {
    "init": ("linearized.commands.provider", "init"),
    "serve": ("linearized.commands.provider", "serve"),
    "user": ("linearized.commands.provider", "user"),
    "keys": ("linearized.commands.provider", "keys"),
    "room": ("linearized.commands.rooms", "room"),
    "abuse": ("linearized.commands.abuse", "abuse"),
    "history": ("linearized.commands.history", "history"),
    "bridge": ("linearized.commands.bridge", "bridge"),
    "demo": ("linearized.commands.demonstration", "demo"),
}


class _Commands(click.Group):
    """Finds commands by the table above."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, attribute = _COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(module), attribute)
        return command


@click.group(
    cls=_Commands,
    epilog=_EXIT_HELP,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="linearized")
def main() -> None:
    """A hub that keeps every room as one linear, MLS-tied, verifiable log.

    It speaks Linearized Matrix and MIMI to other providers, the Matrix client-server API to clients, and
    bridges existing Matrix homeservers. Start with `linearized init` or, to see it work, `linearized demo`.
    """
