"""Finding other providers' users, and what the caller can be found by."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from linearized.mimi.identifier_query import (
    HANDLE_SOURCE,
    OIDC_CLAIMS,
    VCARD_PROPERTIES,
    FieldSource,
    IdentifierRequest,
    QueryElement,
    SearchIdentifierType,
)
from linearized.protocol.canonical import JsonObject
from linearized.protocol.identifiers import is_server_name, user_id_from_uri
from linearized.server import identifiers
from linearized.server.clients.auth import Caller
from linearized.server.clients.context import Context
from linearized.server.clients.fields import boolean, invalid, objects, text
from linearized.server.http import Request, Response, json_response

# Names in JSON of the draft's enumerations.
TYPES: Final[Mapping[str, SearchIdentifierType]] = MappingProxyType(
    {
        "handle": SearchIdentifierType.HANDLE,
        "nick": SearchIdentifierType.NICK,
        "email": SearchIdentifierType.EMAIL,
        "phone": SearchIdentifierType.PHONE,
        "partial_name": SearchIdentifierType.PARTIAL_NAME,
        "whole_profile": SearchIdentifierType.WHOLE_PROFILE,
        "oidc": SearchIdentifierType.OIDC_STD_CLAIM,
        "vcard": SearchIdentifierType.VCARD_FIELD,
    }
)
SOURCES: Final[Mapping[str, FieldSource]] = MappingProxyType(
    {"oidc": FieldSource.OIDC_STD_CLAIM, "vcard": FieldSource.VCARD_FIELD}
)
_KNOWN: Final = {FieldSource.OIDC_STD_CLAIM: OIDC_CLAIMS, FieldSource.VCARD_FIELD: VCARD_PROPERTIES}
_SOURCE_NAMES: Final = {int(source): name for name, source in SOURCES.items()}


async def query(context: Context, request: Request, caller: Caller) -> Response:
    """``POST identifiers/query``: the users of a provider whom all conditions fit."""
    body = await request.json()
    domain = text(body, "domain")
    if not is_server_name(domain):
        raise invalid("domain is not a server name")
    elements = tuple(_element(one) for one in objects(body, "query", limit=identifiers.MAX_ELEMENTS))
    found = await identifiers.ask(
        context.node,
        user_id=caller.owner or caller.user_id,  # pseudonyms must not make an account ask more
        domain=domain,
        request=IdentifierRequest(query_elements=elements),
    )
    profiles = {profile.stable_uri: profile.fields for profile in found.found_profiles}
    users = [
        {
            "user_id": user_id_from_uri(uri),
            "fields": [
                {
                    "source": _SOURCE_NAMES[field.source],
                    "name": field.name,
                    "value": field.value.decode("utf-8", "replace"),
                }
                for field in profiles.get(uri, ())
                if field.source in _SOURCE_NAMES
            ],
        }
        for uri in dict.fromkeys([*found.uris, *profiles])
    ]
    code = getattr(found.code, "name", "unknown").lower()
    return json_response({"code": code, "users": users})


async def profile(context: Context, request: Request, caller: Caller) -> Response:
    """``GET identifiers/profile``: what the caller can be found by."""
    del request
    rows = context.node.store.fields(caller.user_id)
    fields = [
        {"source": _SOURCE_NAMES[row.source], "name": row.name, "value": row.value}
        for row in rows
        if row.source != HANDLE_SOURCE
    ]
    handle = any(row.source == HANDLE_SOURCE for row in rows)
    return json_response({"handle": handle, "fields": fields})


async def set_profile(context: Context, request: Request, caller: Caller) -> Response:
    """``PUT identifiers/profile``: replace it; what is in it is searched, and shown to whoever finds it."""
    body = await request.json()
    fields = [_field(one) for one in objects(body, "fields", limit=identifiers.MAX_FIELDS)]
    await identifiers.publish(context.node, caller.user_id, handle=boolean(body, "handle"), fields=fields)
    return json_response({})


def _element(one: JsonObject) -> QueryElement:
    kind = TYPES.get(text(one, "type"))
    if kind is None:
        raise invalid(f"type must be one of {', '.join(TYPES)}")
    name = text(one, "name", limit=identifiers.MAX_VALUE) if int(kind) in _SOURCE_NAMES else None
    return QueryElement(
        search_type=kind,
        claim_name=name if kind is SearchIdentifierType.OIDC_STD_CLAIM else None,
        property_name=name if kind is SearchIdentifierType.VCARD_FIELD else None,
        search_value=text(one, "value", limit=identifiers.MAX_VALUE),
    )


def _field(one: JsonObject) -> tuple[FieldSource, str, str]:
    source = SOURCES.get(text(one, "source"))
    if source is None:
        raise invalid(f"source must be one of {', '.join(SOURCES)}")
    name = text(one, "name")
    if name not in _KNOWN[source]:
        raise invalid(f"Nobody is found by {name}")
    return source, name, text(one, "value", limit=identifiers.MAX_VALUE)
