"""Asking a running server to do something, from the command line; the other end is ``server/control.py``."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Final

import orjson

from linearized.config import Config
from linearized.exceptions import CanonicalJsonError, ConfigError
from linearized.protocol.canonical import JsonObject, parse_json_object

CONTROL_SOCKET: Final = "control.sock"
# Handing over a room of a million entries: the new hub checks each.
ANSWER_SECONDS: Final = 2 * 3600
MAX_ANSWER_BYTES: Final = 64 * 1024


def control_path(config: Config) -> Path:
    """Where a server listens for its operator."""
    return config.data_dir / CONTROL_SOCKET


def ask_server(config: Config, command: str, **arguments: str | int) -> JsonObject:
    """Have the running server of ``config`` do something; what it answers.

    Raises:
        ConfigError: it is not running, or refuses; the text says why.
    """
    path = control_path(config)
    request = orjson.dumps({"command": command, **arguments}) + b"\n"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(ANSWER_SECONDS)
            connection.connect(str(path))
            connection.sendall(request)
            with connection.makefile("rb") as answers:
                line = answers.readline(MAX_ANSWER_BYTES)
    except OSError as error:
        raise ConfigError(f"{config.server_name} does not answer at {path}: is it running?") from error
    try:
        answer = parse_json_object(line)
    except CanonicalJsonError as error:
        raise ConfigError(f"{config.server_name} broke off; see its log") from error
    result = answer.get("ok")
    if not isinstance(result, dict):
        raise ConfigError(f"{config.server_name}: {answer.get('error')}")
    return result
