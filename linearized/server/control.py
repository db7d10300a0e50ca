"""The operator's way to a running server: a Unix socket in its data directory.

Whoever may open the socket's file is the operator; it is made for the server's own user alone, so there is no
token to keep. One request on each connection, a JSON object in a line; one answer, ``{"ok": …}`` or
``{"error": "…"}``, in a line.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import orjson
import structlog
import trio

from linearized.exceptions import CanonicalJsonError, InvalidInput, LinearizedError
from linearized.protocol.canonical import JsonObject, parse_json_object
from linearized.server.deciding import Overloaded
from linearized.server.join_codes import code_id
from linearized.server.node import Node
from linearized.server.telemetry import describe

log = structlog.get_logger("linearized.control")

# A command and its arguments; a room ID and a server name have 255 bytes each.
MAX_REQUEST_BYTES: Final = 4096
# The command line writes its request at once.
REQUEST_SECONDS: Final = 10.0
# What the kernel allows for the path of a Unix socket (sun_path, with the NUL that ends it).
MAX_PATH_BYTES: Final = 107
_PRIVATE: Final = 0o177

Command = Callable[[JsonObject], Awaitable[JsonObject]]


def commands(node: Node) -> dict[str, Command]:
    """What an operator can have a server do."""

    async def transfer(request: JsonObject) -> JsonObject:
        event_id = await node.moves.transfer(str(request.get("room_id")), str(request.get("hub")))
        return {"event_id": event_id}

    async def join_code(request: JsonObject) -> JsonObject:
        uses, lifetime_ms = request.get("uses"), request.get("lifetime_ms")
        code, _ = await node.join_codes.create(
            str(request.get("room_id")),
            creator=str(request.get("user_id")),
            uses=uses if isinstance(uses, int) else 0,
            lifetime_ms=lifetime_ms if isinstance(lifetime_ms, int) else 0,
        )
        return {"code": code}

    async def join_codes(request: JsonObject) -> JsonObject:
        room_id, user_id = str(request.get("room_id")), str(request.get("user_id"))
        rows = node.join_codes.listing(room_id, user_id=user_id)
        return {
            "codes": [
                {"id": code_id(row), "uses_left": row.uses_left, "expires_ts": row.expires_ts} for row in rows
            ]
        }

    async def revoke_join_code(request: JsonObject) -> JsonObject:
        room_id, user_id = str(request.get("room_id")), str(request.get("user_id"))
        removed = await node.join_codes.revoke(room_id, user_id=user_id, code_id=str(request.get("id")))
        return {"text": "revoked" if removed else "there is no such joining code"}

    async def close_report(request: JsonObject) -> JsonObject:
        number = request.get("number")
        if not isinstance(number, int) or not await node.store.close_report(number, node.clock()):
            raise InvalidInput(f"there is no open report {number}")
        return {"number": number}

    async def dismiss(request: JsonObject) -> JsonObject:
        finding = await node.audits.dismiss(str(request.get("digest")))
        return {"room_id": finding.room_id, "hub": finding.hub}

    async def resume(request: JsonObject) -> JsonObject:
        findings = await node.audits.resume(str(request.get("room_id")))
        return {"findings": len(findings)}

    async def takeover(request: JsonObject) -> JsonObject:
        room_id = str(request.get("room_id"))
        return {"event_id": await node.takeovers.take(room_id, **_words(request))}

    async def takeover_accept(request: JsonObject) -> JsonObject:
        room_id, taker = str(request.get("room_id")), str(request.get("taker"))
        return {"text": await node.takeovers.accept(room_id, taker, **_words(request))}

    async def takeover_withdraw(request: JsonObject) -> JsonObject:
        return {"taker": await node.takeovers.withdraw(str(request.get("room_id")))}

    return {
        "transfer": transfer,
        "join_code": join_code,
        "join_codes": join_codes,
        "revoke_join_code": revoke_join_code,
        "dismiss": dismiss,
        "resume": resume,
        "takeover": takeover,
        "takeover_accept": takeover_accept,
        "takeover_withdraw": takeover_withdraw,
        "close_report": close_report,
    }


def _words(request: JsonObject) -> dict[str, bool]:
    """What an operator gives their word for."""
    return {name: request.get(name) == "yes" for name in ("hub_is_gone", "accept_loss")}


async def serve_control(
    path: Path,
    known: Mapping[str, Command],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer commands on a socket until cancelled.

    Without a socket (its path is too long for the system, say) the server runs all the same, and a warning
    says so.
    """
    try:
        listener = _listen(path)
    except OSError as error:
        log.warning("no_control_socket", path=str(path), **describe(error))
        task_status.started()
        return
    task_status.started()
    try:
        await trio.serve_listeners(partial(_answer, known), [listener])
    finally:
        _remove(path)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def _listen(path: Path) -> trio.SocketListener:
    if len(os.fsencode(path)) > MAX_PATH_BYTES:
        raise OSError(f"a path of more than {MAX_PATH_BYTES} bytes")
    # The database's lock says that no other server of this directory runs, so this is a dead one's.
    _remove(path)
    plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(_PRIVATE)  # the file must never be open to others, not even for a moment
    try:
        plain.bind(os.fspath(path))
    except OSError:
        plain.close()
        raise
    finally:
        os.umask(before)
    plain.listen()
    return trio.SocketListener(trio.socket.from_stdlib_socket(plain))


async def _answer(known: Mapping[str, Command], stream: trio.SocketStream) -> None:
    async with stream:
        try:
            answer = await _run(known, await _request(stream))
            await stream.send_all(orjson.dumps(answer) + b"\n")
        except (trio.BrokenResourceError, trio.TooSlowError):
            return  # whoever asked has gone away, or never asked


async def _request(stream: trio.SocketStream) -> bytes:
    data = b""
    with trio.fail_after(REQUEST_SECONDS):
        while not data.endswith(b"\n") and len(data) <= MAX_REQUEST_BYTES:
            chunk = await stream.receive_some(MAX_REQUEST_BYTES)
            if not chunk:
                break
            data += chunk
    return data


async def _run(known: Mapping[str, Command], data: bytes) -> JsonObject:
    try:
        request = parse_json_object(data[:MAX_REQUEST_BYTES])
    except CanonicalJsonError as error:
        return {"error": f"that is no request: {error}"}
    command = known.get(str(request.get("command")))
    if command is None:
        return {"error": "this server does not know that command"}
    try:
        return {"ok": await command(request)}
    except (LinearizedError, Overloaded) as error:
        return {"error": str(error)}
    except trio.TooSlowError:
        return {"error": "it took too long; whether it was done will show"}
    except Exception as error:  # noqa: BLE001 - a bug in a command: it costs the command, not the server
        log.error("command_failed", command=request.get("command"), **describe(error))
        return {"error": "something went wrong; see the server's log"}
