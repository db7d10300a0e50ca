"""What needs no authentication: our keys, other servers' keys as a notary, our version, where we are."""

from __future__ import annotations

import trio

from linearized import __version__
from linearized.protocol.canonical import JsonObject
from linearized.protocol.identifiers import is_server_name
from linearized.protocol.signing import sign_json
from linearized.server.discovery import split
from linearized.server.endpoints import FINAL, UNSTABLE
from linearized.server.http import HttpError, Request, Response, Route, json_response
from linearized.server.key_documents import LONGEST_VALIDITY_MS, own_document
from linearized.server.node import Node

# A hundred servers with a dozen keys each take half of it, and nobody need say who they are to send it.
MAX_QUERY_BYTES = 128 * 1024
VERSION_PATHS = (f"{FINAL}/v1/version", f"{UNSTABLE}/version")
CONCURRENT_QUERIES = 10  # servers asked at a time on behalf of one notary request


def routes(node: Node) -> list[Route]:
    """The endpoints."""
    lookup = Lookup(node)
    return [
        Route("GET", "/_matrix/key/v2/server", lookup.own_keys),
        Route("GET", "/_matrix/key/v2/query/{server_name}", lookup.query_one),
        Route("POST", "/_matrix/key/v2/query", lookup.query_many),
        *(Route("GET", path, lookup.version) for path in VERSION_PATHS),
        Route("GET", "/.well-known/matrix/server", lookup.well_known),
    ]


class Lookup:
    """Handlers over one node."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def own_keys(self, _request: Request) -> Response:
        """``GET /_matrix/key/v2/server``."""
        return json_response(own_document(self._node.identity, self._node.clock()))

    async def query_one(self, request: Request) -> Response:
        """``GET /_matrix/key/v2/query/{serverName}``."""
        if not is_server_name(request.params["server_name"]):
            raise HttpError(400, "M_INVALID_PARAM", "That is no server name")
        minimum = request.query_one("minimum_valid_until_ts")
        if minimum is not None and not (minimum.isascii() and minimum.isdecimal()):
            raise HttpError(400, "M_INVALID_PARAM", "minimum_valid_until_ts is a number of milliseconds")
        documents = await self._documents(
            request.params["server_name"], int(minimum) if minimum is not None else None
        )
        return json_response({"server_keys": documents})

    async def query_many(self, request: Request) -> Response:
        """``POST /_matrix/key/v2/query``. We answer with every key of the servers asked for, as we may."""
        await request.body(MAX_QUERY_BYTES)
        wanted = _criteria(await request.json(), self._node.config.limits.max_notary_servers)
        found: dict[str, list[JsonObject]] = {}
        limiter = trio.CapacityLimiter(CONCURRENT_QUERIES)

        async def query(server: str, minimum: int | None) -> None:
            async with limiter:
                found[server] = await self._documents(server, minimum)

        async with trio.open_nursery() as nursery:
            for server, minimum in wanted.items():
                nursery.start_soon(query, server, minimum)
        return json_response({"server_keys": [document for server in wanted for document in found[server]]})

    async def _documents(self, server: str, minimum: int | None) -> list[JsonObject]:
        """A server's key documents, signed by us as well."""
        now = self._node.clock()
        documents = await self._node.keys.document(server, now if minimum is None else minimum)
        # "If the keys do not meet minimum_valid_until_ts per Validity, they are not included." Without it,
        # what is no longer valid is still served, "so that the signatures of old events can still be
        # checked".
        if minimum is not None:
            clamp = now + LONGEST_VALIDITY_MS
            documents = [one for one in documents if min(one["valid_until_ts"], clamp) >= minimum]
        identity = self._node.identity
        # "The notary server MUST sign each key returned in server_keys by at least one of its own signing
        # keys."
        return [sign_json(one, name=identity.name, key=identity.key) for one in documents]

    async def version(self, _request: Request) -> Response:
        """``GET /_matrix/federation/v1/version``."""
        return json_response({"server": {"name": "linearized", "version": __version__}})

    async def well_known(self, _request: Request) -> Response:
        """``GET /.well-known/matrix/server``: our name with the port we serve every face on."""
        host, port = split(self._node.identity.name)
        return json_response({"m.server": f"{host}:{port or self._node.config.listen.tls.port}"})


def _criteria(body: JsonObject, limit: int) -> dict[str, int | None]:
    """The servers asked for, each with the longest validity asked of any of its keys."""
    servers = body.get("server_keys")
    if not isinstance(servers, dict) or not all(isinstance(keys, dict) for keys in servers.values()):
        raise HttpError(400, "M_BAD_JSON", "server_keys maps server names to key IDs to criteria")
    if len(servers) > limit:
        raise HttpError(400, "M_BAD_JSON", f"More than {limit} servers are asked for at once")
    if not all(is_server_name(server) for server in servers):
        raise HttpError(400, "M_INVALID_PARAM", "That is no server name")
    return {server: _longest(list(keys.values())) for server, keys in servers.items()}


def _longest(criteria: list[object]) -> int | None:
    minimums = [item.get("minimum_valid_until_ts") for item in criteria if isinstance(item, dict)]
    numbers = [value for value in minimums if isinstance(value, int) and not isinstance(value, bool)]
    return max(numbers, default=None)
