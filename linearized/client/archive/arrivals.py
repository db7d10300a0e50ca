"""What to-device messages of this user's other devices ask and give. No network."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import openmls

from linearized.client.archive import sharing
from linearized.client.device import MlsDevice
from linearized.client.errors import UntrustedAnswer
from linearized.client.items import ArchiveRequested, ArchiveShared, Item
from linearized.client.transport import JsonObject
from linearized.exceptions import InvalidInput

# Archives of one room that a device keeps the keys of: one for each of a user's devices, over the years.
MAX_KNOWN: Final = 50
# Requests that wait for their user at a time: a provider could invent any number.
MAX_REQUESTS: Final = 5


def take(device: MlsDevice, events: Iterable[JsonObject], waiting: int = 0) -> list[Item]:
    """The items for requests and keys; what is not to be believed is passed over, for anybody may send it.
    The caller saves.

    Args:
        waiting: requests that wait for the user already.
    """
    items: list[Item] = []
    for event in events:
        content = event.get("content")
        if event.get("sender") != device.owner.user_id or not isinstance(content, dict):
            continue
        try:
            if event.get("type") == sharing.REQUEST:
                requested = sharing.read_request(content)
                count = waiting + sum(isinstance(item, ArchiveRequested) for item in items)
                if count < MAX_REQUESTS and not _is_ours(device, requested):
                    items.append(requested)
            elif event.get("type") == sharing.KEYS:
                items += _given(device, content)
        except (InvalidInput, openmls.MlsError):
            continue
    return items


def _is_ours(device: MlsDevice, requested: ArchiveRequested) -> bool:
    asked = device.state.archive.request
    return asked is not None and asked.request == requested.request


def _given(device: MlsDevice, content: JsonObject) -> list[Item]:
    state = device.state.archive
    if state.request is None:
        raise UntrustedAnswer("we asked nobody")
    answer = sharing.open_answer(device, state.request, content)
    for room_id, archives in answer.archives.items():
        own = state.own.get(room_id)
        known = {archive.name: archive for archive in state.known.get(room_id, ())}
        for archive in archives:
            before = known.get(archive.name)
            if (own is None or own.name != archive.name) and (
                before is None or before.records < archive.records
            ):
                known[archive.name] = archive
        state.known[room_id] = list(known.values())[-MAX_KNOWN:]
    if not answer.more:
        state.request = None
    return [ArchiveShared(room_id=room_id, client_uri=answer.client_uri) for room_id in answer.archives]
