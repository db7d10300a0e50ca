"""Asking for, giving and taking back consent (draft-ietf-mimi-protocol-06, "Convey explicit consent")."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated

from linearized.mimi.app_data import NO_APP_DATA, AppDataDictionary
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
