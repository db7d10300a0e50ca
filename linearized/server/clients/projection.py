"""Entries as clients see them (Client-Server API, ClientEvent), and the stripped form for who is outside."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Final

import orjson

from linearized.protocol.base64 import encode_base64
from linearized.protocol.canonical import JsonObject
from linearized.room.admission import COMMIT, COMMIT_PART
from linearized.room.submissions import Rejected
from linearized.server.clients.auth import Caller
from linearized.server.clients.bundled import bundle
from linearized.server.clients.context import Context
from linearized.server.clients.ignoring import heard, ignored_by
from linearized.server.franking import FRANK, kept_frank
from linearized.server.http import HttpError
from linearized.server.parts import content_of
from linearized.server.redactions import left_of, redactions_of, told_content
from linearized.server.soft_failures import shown
from linearized.store.base import EntryRow, Store

# Where an entry stands, for clients that follow the log: its sequence number, and the group's epoch after it.
SEQ: Final = "dev.linearized.seq"
EPOCH: Final = "dev.linearized.epoch"

# "the following state events SHOULD be included" (Client-Server API, Stripped state).
STRIPPED_TYPES: Final = frozenset(
    {
        "m.room.create",
        "m.room.name",
        "m.room.avatar",
        "m.room.topic",
        "m.room.join_rules",
        "m.room.canonical_alias",
        "m.room.encryption",
    }
)


def client_event(
    context: Context, caller: Caller, entry: EntryRow, redaction: EntryRow | None = None
) -> JsonObject:
    """An entry as a client event for one caller, whose device recognises its own by
    ``unsigned.transaction_id``. A commit comes with what is in its parts: client events have no largest size.

    Args:
        redaction: what it was redacted by; the client event has then what that leaves.
    """
    now = context.node.clock()
    pdu = orjson.loads(entry.pdu) if redaction is None else left_of(context.node.store, entry)
    if entry.type == COMMIT and redaction is None:
        with suppress(Rejected):  # not what its hub should have written: soft-failed, or shown as it is
            pdu["content"] = content_of(context.node.store, entry)
    unsigned: JsonObject = {"age": max(0, now - entry.origin_server_ts), SEQ: entry.seq}
    if entry.epoch is not None:
        unsigned[EPOCH] = entry.epoch
    if entry.sender == caller.user_id:
        transaction_id = context.echoes.transaction_of(caller.scope, entry, pdu["content"])
        if transaction_id is not None:
            unsigned["transaction_id"] = transaction_id
    if redaction is not None:
        unsigned["redacted_because"] = client_event(context, caller, redaction)
    frank = _frank_of(context, entry)
    if frank is not None:
        unsigned[FRANK] = frank
    event: JsonObject = {
        "content": pdu["content"],
        "event_id": entry.event_id,
        "origin_server_ts": entry.origin_server_ts,
        "room_id": entry.room_id,
        "sender": entry.sender,
        "type": entry.type,
        "unsigned": unsigned,
    }
    if entry.state_key is not None:
        event["state_key"] = entry.state_key
    if "provenance" in pdu:
        event["provenance"] = pdu["provenance"]
    redacts = pdu["content"].get("redacts")
    if entry.type == "m.room.redaction" and isinstance(redacts, str):
        # "servers should additionally add redacts to the top level for clients that expect it there" (room
        # version 11).
        event["redacts"] = redacts
    return event


def _frank_of(context: Context, entry: EntryRow) -> str | None:
    """The hub's stamp on a message, for whoever wants to check or report it."""
    kept = kept_frank(entry)
    if kept is not None:
        return kept
    frank = context.node.franking.of_entry(entry)
    return encode_base64(frank.encode()) if frank is not None else None


def client_events(context: Context, caller: Caller, entries: Sequence[EntryRow]) -> list[JsonObject]:
    """Entries as client events, in their order, without those that clients are not shown, and without parts
    of commits, and without what people said whom the caller ignores. State comes with what it replaced.
    """
    whole = [entry for entry in entries if entry.type != COMMIT_PART]
    told = heard(shown(context.node.store, whole), ignored_by(context.node.store, caller.user_id))
    return _with_previous(context, caller, told, _told(context, caller, told))


def state_events(context: Context, caller: Caller, entries: Sequence[EntryRow]) -> list[JsonObject]:
    """The state of a room at one place, as client events: what was before it is no part of that."""
    return _told(context, caller, shown(context.node.store, entries))


def single_event(context: Context, caller: Caller, entry: EntryRow) -> JsonObject:
    """An entry that was asked for by its ID, as ``client_events`` would give it, parts of commits too."""
    return _with_previous(context, caller, [entry], _told(context, caller, [entry]))[0]


def _with_previous(
    context: Context, caller: Caller, entries: Sequence[EntryRow], events: list[JsonObject]
) -> list[JsonObject]:
    """Put the state that each state event replaced beside it: "only returned if the event is a state event,
    and the client has permission to see the previous content" (Client-Server API, UnsignedData).
    """
    changes = [(entry, event) for entry, event in zip(entries, events, strict=True) if "state_key" in event]
    if not changes:
        return events
    try:
        view = context.views.require(changes[0][0].room_id, caller.user_id)
    except HttpError:  # told of a room that they may not read, by what is about themselves
        return events
    store = context.node.store
    for entry, event in changes:
        before = store.state_entry(entry.room_id, entry.type, event["state_key"], seq=entry.seq - 1)
        if before is not None and view.shows(before):
            event["unsigned"]["prev_content"] = told_content(store, before)
            event["unsigned"]["replaces_state"] = before.event_id
    return events


def _told(context: Context, caller: Caller, entries: Sequence[EntryRow]) -> list[JsonObject]:
    """Entries of one room as client events, redacted where they are, with what relates to them."""
    if not entries:
        return []
    store, room_id = context.node.store, entries[0].room_id
    parents, redacted = store.marked(room_id, [entry.event_id for entry in entries])
    redactions = redactions_of(store, [entry for entry in entries if entry.event_id in redacted])
    events = [client_event(context, caller, entry, redactions.get(entry.event_id)) for entry in entries]
    related = [
        (entry, event)
        for entry, event in zip(entries, events, strict=True)
        if entry.event_id in parents and entry.state_key is None
    ]
    if related:
        with suppress(
            HttpError
        ):  # a few entries are told to who may not read the room: those about themselves
            view = context.views.require(room_id, caller.user_id)
            bundle(store, view, caller.user_id, related, render=partial(client_event, context, caller))
    return events


def stripped_state(store: Store, state: Sequence[EntryRow], *, user_id: str) -> list[JsonObject]:
    """What an invited or knocking user may know of a room, ending with the invitation or knock itself."""
    chosen = [entry for entry in state if entry.type in STRIPPED_TYPES]
    own = [entry for entry in state if (entry.type, entry.state_key) == ("m.room.member", user_id)]
    return [
        {
            "content": told_content(store, entry),
            "sender": entry.sender,
            "state_key": entry.state_key,
            "type": entry.type,
        }
        for entry in (*chosen, *own)
    ]
