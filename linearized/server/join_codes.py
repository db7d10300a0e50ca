"""Joining codes: a secret that lets whoever shows it to the hub into a room.

"The request can include an optional opaque joining code, which the requester could use to prove permission to
fetch the GroupInfo, even if it is not yet a participant" (MIMI protocol, Claim group key information). What a
code refers to the draft leaves open: ours is an invitation by its creator, given in advance. Whoever shows it
gets the group information, and may then join by an external commit; in the log the creator invites them with
that commit, so that the creator must still be able to.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Final

import openmls

from linearized.exceptions import IdentifierError, MimiDecodeError
from linearized.mimi.commit_parts import commit_parts
from linearized.mimi.handshake import HandshakeBundle
from linearized.protocol.base64 import decode_base64, encode_base64url
from linearized.protocol.identifiers import user_domain
from linearized.protocol.state import StateMap, membership
from linearized.room.credentials import client_of
from linearized.room.submissions import Reason, Rejected
from linearized.server.buckets import Buckets, address_names
from linearized.store.base import Role
from linearized.store.joining import AdmissionRow, JoinCodeRow

if TYPE_CHECKING:
    from linearized.server.http import Request
    from linearized.server.hub import Hub
    from linearized.server.node import Node

CODE_BYTES: Final = 16  # 128 bits: nobody finds one by trying, whatever the limits on that are
MAX_CODES: Final = 64  # of a room; each guess is compared with all of them
MAX_USES: Final = 1000  # users that one code lets in; a room for more is open to everybody
MAX_LIFETIME_MS: Final = 30 * 24 * 3_600_000  # a month: what is forgotten stops working by itself
# Between the group information and the commit made with it: a client does both in a row.
ADMISSION_MS: Final = 10 * 60_000
# Codes shown by one user, and by one provider to one room: people mistype, and come in crowds after a talk.
SHOWN_PER_SECOND: Final = 0.2
SHOWN_BURST: Final = 30
# By one provider to all rooms, and by clients at one address: each may be many people, and whoever has many
# accounts or knows many rooms gets no further than they.
CROWD_PER_SECOND: Final = 2
CROWD_BURST: Final = 300


class JoinCodes:
    """The codes of the rooms that this server orders."""

    def __init__(self, node: Node, hub: Hub) -> None:
        self._node = node
        self._hub = hub
        self.limit = Buckets(node.clock, per_second=SHOWN_PER_SECOND, burst=SHOWN_BURST)
        self.crowd_limit = Buckets(node.clock, per_second=CROWD_PER_SECOND, burst=CROWD_BURST)

    async def create(self, room_id: str, *, creator: str, uses: int, lifetime_ms: int) -> tuple[str, int]:
        """A new code in the name of one of our users, and when it expires; it is told once, and kept nowhere.

        Raises:
            Rejected: ``FORBIDDEN`` if the creator may not make any, or the room has too many;
                ``MALFORMED`` for bounds out of bounds.
        """
        self._require(room_id, creator, "create")
        if not 1 <= uses <= MAX_USES or not 1 <= lifetime_ms <= MAX_LIFETIME_MS:
            raise Rejected(
                Reason.MALFORMED, f"A code lets in 1 to {MAX_USES} users for at most {MAX_LIFETIME_MS} ms"
            )
        code = self._node.ids(CODE_BYTES)
        row = JoinCodeRow(
            room_id=room_id,
            digest=_digest(code.encode()),
            creator=creator,
            uses_left=uses,
            expires_ts=self._node.clock() + lifetime_ms,
        )
        if not await self._node.store.put_join_code(row, most=MAX_CODES):
            raise Rejected(Reason.FORBIDDEN, f"A room has at most {MAX_CODES} joining codes")
        return code, row.expires_ts

    def listing(self, room_id: str, *, user_id: str) -> list[JoinCodeRow]:
        """A room's codes, for who may revoke them.

        Raises:
            Rejected: ``FORBIDDEN``.
        """
        self._require(room_id, user_id, "delete")
        return self._node.store.join_codes(room_id)

    async def revoke(self, room_id: str, *, user_id: str, code_id: str) -> bool:
        """Revoke a code by its ID; False if there is none such.

        Raises:
            Rejected: ``FORBIDDEN``.
            InvalidInput: ``code_id`` is no ID.
        """
        self._require(room_id, user_id, "delete")
        return await self._node.store.remove_join_code(room_id, decode_base64(code_id))

    async def show(self, room_id: str, *, user_id: str, code: bytes) -> bool:
        """Use a code for a user who is not joined; whether they may join now.

        Raises:
            HttpError: 429, too many were shown by the user, or by their provider for this room or for all.
        """
        provider = user_domain(user_id)
        self.limit.take(user_id, f"{provider} {room_id}")
        if provider not in self._node.served_domains:  # of ours we know more: see ``tried_by``
            self.crowd_limit.take(f"provider {provider}")
        shown = _digest(code)
        found: JoinCodeRow | None = None
        for row in self._node.store.join_codes(room_id):
            # All of them, each in the same time: how long it takes says nothing about any.
            if hmac.compare_digest(row.digest, shown):
                found = row
        if found is None:
            return False
        now = self._node.clock()
        admission = AdmissionRow(
            room_id=room_id,
            user_id=user_id,
            creator=found.creator,
            digest=found.digest,
            member_event_id=_member_event(self._node.rooms.state(room_id), user_id),
            expires_ts=now + ADMISSION_MS,
        )
        return await self._node.store.admit(admission, now_ms=now)

    def shown_elsewhere(self, room_id: str, *, user_id: str) -> None:
        """Count a code that is shown to us for a room that has moved, like any other.

        Raises:
            HttpError: 429, as for ``show``.
        """
        provider = user_domain(user_id)
        self.limit.take(user_id, f"{provider} {room_id}")
        self.crowd_limit.take(f"provider {provider}")

    def tried_by(self, request: Request) -> None:
        """Count a code that a client of ours shows, whichever hub it is for, by the client's address.

        Raises:
            HttpError: 429, too many were shown from there.
        """
        self.crowd_limit.take(*address_names(request))

    def inviter(self, room_id: str, bundle: HandshakeBundle) -> str | None:
        """Who invites the joiner of an external commit by a code that the joiner has shown; None if nobody
        does, or for any other handshake.
        """
        try:
            joiner = commit_parts(bundle.message).joiner if bundle.is_commit else None
            user_id = client_of(joiner).user_id if joiner is not None else None
        except (IdentifierError, MimiDecodeError, openmls.MlsError):
            return None  # the room says what is wrong with it
        admission = None if user_id is None else self._node.store.admission(room_id, user_id)
        if admission is None or user_id is None or admission.expires_ts <= self._node.clock():
            return None
        current = _member_event(self._node.rooms.state(room_id), user_id)
        return admission.creator if current == admission.member_event_id else None

    def _require(self, room_id: str, user_id: str, act: str) -> None:
        row = self._node.rooms.row(room_id)
        if row is None or row.role is not Role.HUB:
            raise Rejected(Reason.WRONG_HUB, "Only the hub of a room makes joining codes for it")
        if membership(self._node.rooms.state(room_id), user_id) != "join":
            raise Rejected(Reason.FORBIDDEN, f"{user_id} is not in the room")
        self._hub.load(room_id).check_join_codes(user_id, creates=act == "create")


def code_id(row: JoinCodeRow) -> str:
    """What a code is called where it must not be told: unpadded base64url."""
    return encode_base64url(row.digest)


def _digest(code: bytes) -> bytes:
    return hashlib.sha256(code).digest()


def _member_event(state: StateMap, user_id: str) -> str:
    event = state.get(("m.room.member", user_id))
    return "" if event is None else event.event_id
