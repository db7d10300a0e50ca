"""Room aliases across servers: what ours are told to stand for, and asking others about theirs.

An alias belongs to the server in its name, which alone says what it stands for. Only somebody with an account
makes us ask, so often, and what was answered is kept for a while.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

from linearized.protocol.canonical import JsonObject
from linearized.protocol.identifiers import is_room_id, is_server_name, room_domain
from linearized.server.endpoints import ALIAS
from linearized.server.exchange import OutboundError
from linearized.server.http import HttpError
from linearized.server.node import Node
from linearized.store.directory import AliasRow

# Answers kept, about 500 bytes each; the oldest goes first.
MAX_KEPT: Final = 1_000
# How long one is: whoever moves an alias does not wait longer for others to notice than a person would.
KEPT_MS: Final = 60_000
# Servers taken from an answer: as many as a join goes through.
MAX_SERVERS: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """The room that an alias stands for, and servers to join it through."""

    room_id: str
    servers: tuple[str, ...]


def servers_of(node: Node, row: AliasRow) -> list[str]:
    """Servers by which one gets into the room of an alias of ours."""
    return list(dict.fromkeys((node.identity.name, room_domain(row.room_id))))


class RemoteAliases:
    """What other servers said of their aliases; None that there is no such alias."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._kept: OrderedDict[str, tuple[Named | None, int]] = OrderedDict()

    async def find(self, user_id: str, alias: str) -> Named | None:
        """Ask, for one of our users, the server in an alias.

        Raises:
            HttpError: 429 ``M_LIMIT_EXCEEDED``.
            OutboundError: the server does not say, or what it says is no answer.
        """
        now = self._node.clock()
        found, until = self._kept.get(alias, (None, now))
        if until > now:
            return found
        self._node.query_limit.take(user_id)
        found = await self._ask(alias.partition(":")[2], alias)
        self._kept.pop(alias, None)
        self._kept[alias] = found, now + KEPT_MS
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        return found

    async def _ask(self, server: str, alias: str) -> Named | None:
        path = ALIAS.format(room_alias=quote(alias, safe=""))
        try:
            return _named(server, await self._node.federation.request(server, "GET", path))
        except OutboundError as error:
            if (error.status, error.errcode) != (HTTPStatus.NOT_FOUND, "M_NOT_FOUND"):
                raise
            return None


def _named(server: str, answer: JsonObject) -> Named:
    room_id, servers = answer.get("room_id"), answer.get("servers")
    if not is_room_id(room_id) or not isinstance(servers, list):
        raise OutboundError(f"{server} gave an answer about an alias that cannot be read")
    names = dict.fromkeys(name for name in servers if is_server_name(name))
    return Named(room_id=str(room_id), servers=tuple(names)[:MAX_SERVERS])


def unknown_alias() -> HttpError:
    """What is answered for an alias that stands for nothing."""
    return HttpError(404, "M_NOT_FOUND", "There is no such room alias")
