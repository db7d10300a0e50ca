"""What devices of other servers' users say of themselves, beyond the updates that reach us: asked for where
it matters.

An update may have passed us by: while no room was shared, or because more waited for us than there was place
for. So an object we hold may be an old one, and nothing is refused because of it before its server was asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

import orjson
import trio

from linearized.exceptions import InvalidInput
from linearized.protocol.canonical import JsonObject
from linearized.protocol.identifiers import user_domain
from linearized.room.credentials import ClientIdentity
from linearized.room.submissions import Accepted, OtherKeyPublished, Rejected, Submission
from linearized.server import device_lists
from linearized.server.deciding import Repeated
from linearized.server.device_objects import checked
from linearized.server.endpoints import UNSTABLE
from linearized.server.hub import Hub
from linearized.server.node import Node
from linearized.server.outbound import OutboundError
from linearized.store.base import Reply, Store

# "The same applies if the user ID does not exist, or the user does not have the device ID requested."
_NO_SUCH_DEVICE: Final = (404, "M_NOT_FOUND")


async def ask(node: Node, client: ClientIdentity) -> bool:
    """Ask a device's server what the device says of itself, and keep that; whether it is news.

    Raises:
        OutboundError: the server did not answer, or with something that is no valid device object.
    """
    server = user_domain(client.user_id)
    path = f"{UNSTABLE}/user/{quote(client.user_id, safe='')}/device/{quote(client.device_id, safe='')}"
    held = node.store.device_objects(client.user_id)
    before = held.get(client.device_id)
    try:
        answer = await node.federation.request(server, "GET", path)
        said = orjson.dumps(checked(answer, user_id=client.user_id, device_id=client.device_id))
    except InvalidInput as error:
        raise OutboundError(f"{server} gave a device object that is invalid: {error}") from error
    except OutboundError as error:
        if (error.status, error.errcode) != _NO_SUCH_DEVICE:
            raise
        if before is None:
            return False
        await node.store.delete_device_objects(client.user_id, [client.device_id])
    else:
        if said == before or (before is None and len(held) >= device_lists.MAX_DEVICES):
            return False
        await node.store.put_device_object(client.user_id, client.device_id, said)
    await device_lists.note_changed(node, client.user_id)
    return True


async def submit_all(
    node: Node, hub: Hub, room_id: str, submissions: Sequence[tuple[Submission, Reply | None]]
) -> list[Accepted | Rejected | Repeated]:
    """As ``Hub.submit_all``, but a leaf that is not what its device published, as far as we know, is refused
    only after the device's server was asked again: once for each leaf. Decided again it comes after the rest.
    """
    outcomes = await hub.submit_all(room_id, submissions)
    for place, submission in enumerate(submissions):
        asked: set[ClientIdentity] = set()
        while isinstance(refused := outcomes[place], OtherKeyPublished):
            if not await _learned(node, refused.client, asked):
                break
            (outcomes[place],) = await hub.submit_all(room_id, [submission])
    return outcomes


async def _learned(node: Node, client: ClientIdentity, asked: set[ClientIdentity]) -> bool:
    if client in asked or user_domain(client.user_id) in node.served_domains:
        return False
    asked.add(client)
    try:
        return await ask(node, client)
    except OutboundError:
        return False  # what we hold is all that is known


def meets(store: Store, user_id: str, other: str) -> bool:
    """Whether two users share a room in which ``other`` is by Linearized Matrix."""
    joined = {row.room_id for row in store.rooms_of(user_id) if row.membership == "join"}
    return any(
        row.membership == "join" and row.room_id in joined and device_lists.signs_events(store, row)
        for row in store.rooms_of(other)
    )


async def query(
    node: Node, wanted: dict[str, list[str]], *, seconds: float
) -> tuple[dict[str, dict[str, JsonObject]], dict[str, str]]:
    """Device objects of other servers' users; and which servers could not be asked, with the reason.

    Args:
        wanted: users of one or many servers, with device IDs, or none for all that are known of. A device
            that is named and not known is asked for.
        seconds: how long this may take in all; one server's devices are asked for one after the other.
    """
    failed: dict[str, str] = {}
    unknown: dict[str, list[ClientIdentity]] = {}
    for user_id, names in wanted.items():
        held = node.store.device_objects(user_id)
        missing = [ClientIdentity(user_id, name) for name in names if name not in held]
        unknown.setdefault(user_domain(user_id), []).extend(missing)

    async def ask_all(server: str, clients: list[ClientIdentity]) -> None:
        failed[server] = f"{server} took too long to answer"
        try:
            for client in clients:
                await ask(node, client)
        except OutboundError as error:
            failed[server] = str(error)
        else:
            del failed[server]

    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            for server, clients in unknown.items():
                if clients:
                    nursery.start_soon(ask_all, server, clients)
    found = {
        user_id: {
            device_id: orjson.loads(said)
            for device_id, said in node.store.device_objects(user_id).items()
            if not names or device_id in names
        }
        for user_id, names in wanted.items()
    }
    return found, failed
