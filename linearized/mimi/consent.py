"""Asking for, giving and taking back consent (draft-ietf-mimi-protocol-06, "Convey explicit consent")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Annotated

from linearized.mimi.app_data import NO_APP_DATA, AppDataDictionary
from linearized.mimi.key_material import KeyMaterialUserCode
from linearized.mimi.mls_framing import walk_key_package
from linearized.mimi.tls import MAX_URI_BYTES, Enumeration, Maybe, Raw, Struct, Text, Uri, Vector, When


class ConsentOperation(IntEnum):
    """``CANCEL`` and ``REQUEST`` go to ``requestConsent``, ``GRANT`` and ``REVOKE`` to ``updateConsent``."""

    CANCEL = 0
    REQUEST = 1
    GRANT = 2
    REVOKE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentScope(Struct):
    """What a consent is about: who wants to add whom, and to which room (``None``: any)."""

    requester_uri: Uri
    target_uri: Uri
    room_id: Annotated[str | None, Maybe(Text("ascii", MAX_URI_BYTES))] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentEntry(Struct):
    """The body of both endpoints; a grant may bring KeyPackages (without MLSMessage header) of the target."""

    operation: Annotated[ConsentOperation, Enumeration(ConsentOperation)]
    requester_uri: Uri
    target_uri: Uri
    room_id: Annotated[str | None, Maybe(Text("ascii", MAX_URI_BYTES))] = None
    client_key_packages: Annotated[
        tuple[bytes, ...],
        When("operation", (ConsentOperation.GRANT,), Vector(Raw(walk_key_package)), absent=()),
    ] = ()
    extensions: AppDataDictionary = NO_APP_DATA

    @property
    def scope(self) -> ConsentScope:
        """The scope, which a ``CANCEL`` must share with its ``REQUEST``."""
        return ConsentScope(
            requester_uri=self.requester_uri, target_uri=self.target_uri, room_id=self.room_id
        )


class ConsentState(StrEnum):
    """What stands between a requester and a target, for one room or for any."""

    REQUESTED = "requested"
    GRANTED = "granted"
    REVOKED = "revoked"  # or denied, whether or not anybody had asked


def consent_after(state: ConsentState | None, operation: ConsentOperation) -> ConsentState | None:
    """The state of a scope after an operation on it; None: nothing is known.

    Every operation may come twice, and late: a cancel "which has no request matching the ConsentScope" and a
    request of what was decided already change nothing. "A grant or revoke does not need to be in response to
    an explicit request".
    """
    if operation is ConsentOperation.GRANT:
        return ConsentState.GRANTED
    if operation is ConsentOperation.REVOKE:
        return ConsentState.REVOKED
    if operation is ConsentOperation.CANCEL:
        return None if state is ConsentState.REQUESTED else state
    return state or ConsentState.REQUESTED


def consent_refusal(
    states: Mapping[str | None, ConsentState], room_id: str | None, *, required: bool
) -> KeyMaterialUserCode | None:
    """Why a requester may not have key packages of a target; None if they may.

    What was said about the room counts more than what was said about any room.

    Args:
        states: what is known between the two by room, None for any room.
        room_id: the room the packages are for, None if the request does not say.
        required: whether nothing known means no.
    """
    specific = states.get(room_id) if room_id is not None else None
    if specific is ConsentState.GRANTED:
        return None
    if specific is ConsentState.REVOKED:
        return KeyMaterialUserCode.NO_CONSENT_FOR_THIS_ROOM
    general = states.get(None)
    if general is ConsentState.GRANTED:
        return None
    if general is not ConsentState.REVOKED and not required:
        return None
    # "noConsentForThisRoom indicates that the target user might have allowed a request for another room, but
    # does not for this room."
    elsewhere = ConsentState.GRANTED in states.values()
    return KeyMaterialUserCode.NO_CONSENT_FOR_THIS_ROOM if elsewhere else KeyMaterialUserCode.NO_CONSENT


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPackages(Struct):
    """Key packages that came with a grant, as they are kept until a client takes them."""

    packages: Annotated[tuple[bytes, ...], Vector(Raw(walk_key_package))] = ()
