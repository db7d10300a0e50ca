"""The hub's stamps on the messages it accepted (draft-ietf-mimi-protocol-06, "Message Franking").

A frank is a function of a log's entry and of the hub's keys, so none is stored: whoever is given the entry is
given the frank made anew. Entries of a room that another provider's hub orders carry the frank it sent.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import openmls
import orjson

from linearized.exceptions import InvalidInput
from linearized.mimi.franking import ServerFrankingContext, is_franked, make_frank, tag_in
from linearized.mimi.messages import Frank
from linearized.protocol.base64 import decode_base64, encode_base64
from linearized.protocol.canonical import JsonObject, canonical_json
from linearized.protocol.identifiers import room_domain, room_uri, user_domain, user_uri
from linearized.protocol.state import HUB
from linearized.protocol.versions import get_version
from linearized.room.admission import ENCRYPTED
from linearized.server.franking_keys import FrankingKeys
from linearized.server.parts import content_of
from linearized.store.base import EntryRow, Role, Store

FRANK: Final = "dev.linearized.frank"
"""The member of ``unsigned`` in which clients, and our copies of other hubs' entries, have the encoded
``Frank`` in unpadded base64."""

# Epochs whose cipher suite is remembered, and franks that were made for one follower and will be asked for by
# the next; each takes some 300 bytes.
MAX_EPOCHS: Final = 10_000
MAX_FRANKS: Final = 10_000


class Franking:
    """Makes franks for what we accepted as hub, also in rooms that another hub orders by now.

    Args:
        own_name: the provider domain in the agent's credential.
    """

    def __init__(self, keys: FrankingKeys, *, own_name: str, store: Store) -> None:
        self.keys = keys
        self.agents = keys.agents(own_name)
        self._own_name = own_name
        self._store = store
        self._suites: OrderedDict[tuple[str, int], int | None] = OrderedDict()
        self._franks: OrderedDict[str, Frank | None] = OrderedDict()

    def of_entry(self, entry: EntryRow, message: bytes | None = None) -> Frank | None:
        """The frank of an entry that we accepted as the room's hub; None for all but franked messages.

        Args:
            message: the entry's MLSMessage, if it is at hand.
        """
        if entry.type != ENCRYPTED:
            return None
        if entry.event_id not in self._franks:
            message = _message_of(entry) if message is None else message
            self._franks[entry.event_id] = self._frank(entry, message) if message is not None else None
            if len(self._franks) > MAX_FRANKS:
                self._franks.popitem(last=False)
        return self._franks[entry.event_id]

    def _frank(self, entry: EntryRow, message: bytes) -> Frank | None:
        try:
            tag = tag_in(openmls.inspect_message(message).authenticated_data or b"")
            sender = user_uri(entry.sender)
        except (openmls.MlsError, InvalidInput):
            return None  # an entry that another hub took before the room came to us
        suite = self._suite(entry) if tag is not None and self._accepted_here(entry) else None
        if tag is None or suite is None:
            return None
        context = ServerFrankingContext(
            sender_uri=sender, room_uri=room_uri(entry.room_id), accepted_timestamp=entry.origin_server_ts
        )
        return make_frank(
            hub_key=self.keys.hub_key,
            tag=tag,
            context=context,
            cipher_suite=suite,
            sign=self.keys.signers[suite].sign_with_label,
        )

    def _accepted_here(self, entry: EntryRow) -> bool:
        row = self._store.room(entry.room_id)
        if row is None or row.role not in {Role.HUB, Role.PARTICIPANT}:
            return False
        if not get_version(row.version).hub_transfers:
            return row.role is Role.HUB
        moved = self._store.state_entry(entry.room_id, *HUB, seq=entry.seq)
        hub = room_domain(entry.room_id) if moved is None else user_domain(moved.sender)
        return hub == self._own_name

    def _suite(self, entry: EntryRow) -> int | None:
        """The cipher suite of the group if its agent was ours when it took this message. A group never
        changes its suite, and its agent only by a commit.
        """
        if entry.epoch is None:
            return None
        key = entry.room_id, entry.epoch
        if key not in self._suites:
            commit = self._store.commit_before(entry.room_id, seq=entry.seq)
            if commit is None:
                return None
            content = content_of(self._store, commit)
            details = openmls.group_info_details(decode_base64(content["public_group_state"]))
            ours = is_franked(details.app_data, self.agents.get(details.ciphersuite))
            self._suites[key] = details.ciphersuite if ours else None
            if len(self._suites) > MAX_EPOCHS:
                self._suites.popitem(last=False)
        return self._suites[key]


def _message_of(entry: EntryRow) -> bytes | None:
    ciphertext = orjson.loads(entry.pdu)["content"].get("ciphertext")
    if not isinstance(ciphertext, str):  # imported history
        return None
    try:
        return decode_base64(ciphertext)
    except InvalidInput:
        return None  # an entry that another hub took before the room came to us


def kept_frank(entry: EntryRow) -> str | None:
    """The encoded frank (unpadded base64) that came with another hub's entry, if one did."""
    if entry.type != ENCRYPTED:
        return None
    kept = orjson.loads(entry.pdu).get("unsigned", {}).get(FRANK)
    return kept if isinstance(kept, str) else None


def with_frank(pdu: bytes, frank: Frank | None) -> bytes:
    """Our copy of another hub's entry (canonical JSON) with the frank that came with it, for our clients."""
    if frank is None:
        return pdu
    event: JsonObject = orjson.loads(pdu)
    return canonical_json({**event, "unsigned": {FRANK: encode_base64(frank.encode())}})
