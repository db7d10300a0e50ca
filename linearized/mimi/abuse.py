"""Reporting abusive messages to the hub (draft-ietf-mimi-protocol-06, "Report abuse")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from linearized.mimi.app_data import NO_APP_DATA, AppDataDictionary
from linearized.mimi.messages import Frank
from linearized.mimi.tls import Bytes, String, Struct, Uint8, Uint64, Uri, Vector


@dataclass(frozen=True, slots=True, kw_only=True)
class AbusiveMessage(Struct):
    """A message as it was decrypted, and the hub's stamp that proves it went through the hub.

    ``message_content`` is the ``application_data``, usually MIMI content; the time is in milliseconds since
    the Unix epoch.
    """

    message_content: Bytes
    frank: Frank
    accepted_timestamp: Uint64


@dataclass(frozen=True, slots=True, kw_only=True)
class AbuseReport(Struct):
    """The body of ``POST /reportAbuse/{roomId}``.

    ``reporting_user`` may be empty. ``reason_code`` has no assigned values yet; 0 says nothing about the
    reason.
    """

    reporting_user: Uri = ""
    alleged_abuser_uri: Uri
    reason_code: Uint8 = 0
    note: String = ""
    messages: Annotated[tuple[AbusiveMessage, ...], Vector(AbusiveMessage)] = ()
    extensions: AppDataDictionary = NO_APP_DATA
