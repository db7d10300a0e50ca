"""Asking the servers that the operator trusts for another one's keys (draft, Retrieving Server Keys)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from linearized.exceptions import InvalidInput
from linearized.protocol.canonical import JsonObject
from linearized.protocol.signing import verify_json
from linearized.server.exchange import OutboundError
from linearized.server.key_documents import KeyDocument, parse_document
from linearized.server.telemetry import get_log

# Documents read from one answer. A notary has one for each set of keys a server ever published.
MAX_DOCUMENTS: Final = 10

log = get_log(part="notaries")

Query = Callable[[str, str], Awaitable[JsonObject]]
KeysOf = Callable[[str], Awaitable[Mapping[str, bytes]]]


class Notaries:
    """The trusted ones.

    Args:
        names: their server names, asked in this order.
        query: asks a notary (first) for a server's documents (second); gives its unchecked answer.
    """

    def __init__(self, names: Sequence[str], query: Query) -> None:
        self.names = tuple(names)
        self._query = query

    async def documents(self, server: str, now: int, keys_of: KeysOf) -> list[KeyDocument]:
        """What the first notary that knows ``server`` says, newest first; nothing if none does.

        Args:
            keys_of: a notary's own current keys.
        """
        for notary in self.names:
            try:
                answer = await self._query(notary, server)
                keys = await keys_of(notary)
            except OutboundError as error:
                log.info("notary_unavailable", notary=notary, exception=type(error).__name__)
                continue
            found = _checked(answer, server=server, notary=notary, keys=keys, now=now)
            if found:
                return sorted(found, key=lambda document: document.valid_until, reverse=True)
        return []


def _checked(
    answer: JsonObject, *, server: str, notary: str, keys: Mapping[str, bytes], now: int
) -> list[KeyDocument]:
    listed = answer.get("server_keys")
    found: list[KeyDocument] = []
    for item in listed[:MAX_DOCUMENTS] if isinstance(listed, list) else []:
        try:
            if not isinstance(item, dict):
                raise InvalidInput("a key document is an object")
            # "The calling server MUST validate all signatures on the objects": the server's own, and the
            # notary's.
            verify_json(item, name=notary, keys=keys)
            found.append(parse_document(item, server, now))
        except InvalidInput as error:  # the others may hold
            log.info("notary_document_refused", notary=notary, exception=type(error).__name__)
    return found
