"""Finding users by name, handle, address or number (draft-ietf-mimi-protocol-06, "Find internal address").

"Searches only return results for a user when the fields searched are searchable according the user's and
provider's search policies": a user is found by what they have put up for it, which is nothing at first.
"""

from __future__ import annotations

from typing import Final

from linearized.exceptions import IdentifierError, MimiDecodeError
from linearized.mimi.identifier_query import (
    HANDLE,
    HANDLE_SOURCE,
    USER,
    FieldSource,
    IdentifierQueryCode,
    IdentifierRequest,
    IdentifierResponse,
    ProfileField,
    Search,
    UserProfile,
    search_of,
)
from linearized.protocol.identifiers import parse_user_id, user_domain, user_id_from_uri, user_uri
from linearized.server.http import HttpError
from linearized.server.node import Node
from linearized.server.providers.client import ProviderError
from linearized.store.contacts import FieldRow

MAX_ELEMENTS: Final = (
    10  # more conditions than a search form has; each costs a look at the index or the table
)
MAX_VALUE: Final = 256  # characters of a value; e-mail addresses end at 254
# Matches of one condition looked at; more and the condition says next to nothing.
MAX_MATCHES: Final = 1000
# People in one answer, so that nobody reads the directory page by page.
MAX_RESULTS: Final = 20
MAX_FIELDS: Final = 30  # of one user; each is shown to whoever finds them
# What we take from another provider, whose bounds may be wider than ours.
MAX_ANSWERED: Final = 200


def answer(node: Node, asker: str, domain: str, request: IdentifierRequest) -> IdentifierResponse:
    """Answer a query about our users.

    Args:
        asker: the provider, or the user of ours, who asks; what the query is counted for.
        domain: from the path: whose users are meant.

    Raises:
        HttpError: 404 ``M_NOT_FOUND`` for a domain that is not ours, 429 ``M_LIMIT_EXCEEDED``.
    """
    if domain not in node.served_domains:
        raise HttpError(404, "M_NOT_FOUND", "That domain is not of this provider")
    node.query_limit.take(asker)
    elements = request.query_elements
    # "forbidden means that use of this endpoint is not allowed by the provider or that an unspecified field
    # or combination of fields is not allowed".
    if not 0 < len(elements) <= MAX_ELEMENTS or any(len(one.search_value) > MAX_VALUE for one in elements):
        return IdentifierResponse(code=IdentifierQueryCode.FORBIDDEN)
    found: set[str] | None = None
    for element in elements:
        search = search_of(element)
        if not isinstance(search, Search):
            return IdentifierResponse(code=search)
        matches = _matches(node, search)
        if len(matches) >= MAX_MATCHES:
            return IdentifierResponse(code=IdentifierQueryCode.AMBIGUOUS)
        found = matches if found is None else found & matches
    users = sorted(user_id for user_id in found or () if user_domain(user_id) == domain)
    if not users:
        return IdentifierResponse(code=IdentifierQueryCode.NOT_FOUND)
    # "ambiguous means that a field … or combination of fields … need to match exactly for the provider to
    # return any responses."
    if len(users) > MAX_RESULTS:
        return IdentifierResponse(code=IdentifierQueryCode.AMBIGUOUS)
    return IdentifierResponse(
        code=IdentifierQueryCode.SUCCESS,
        uris=tuple(user_uri(user_id) for user_id in users),
        found_profiles=tuple(_profile(node, user_id) for user_id in users),
    )


async def ask(node: Node, *, user_id: str, domain: str, request: IdentifierRequest) -> IdentifierResponse:
    """Query, for one of our users, a provider's users.

    Raises:
        HttpError: as ``answer``.
        ProviderError: the provider did not answer, or not about its own users.
    """
    if domain in node.served_domains:
        return answer(node, user_id, domain, request)
    node.query_limit.take(user_id)
    body = await node.providers.exchange(domain, "identifierQuery", domain, request.encode())
    try:
        response = IdentifierResponse.decode(body)
        named = [*response.uris, *(profile.stable_uri for profile in response.found_profiles)]
        strangers = [uri for uri in named if user_domain(user_id_from_uri(uri)) != domain]
    except (MimiDecodeError, IdentifierError) as error:
        raise ProviderError(f"{domain} gave an answer that cannot be read: {error}") from error
    if strangers or len(named) > MAX_ANSWERED:
        raise ProviderError(f"{domain} answered for users who are not its own, or for too many")
    return response


async def publish(
    node: Node, user_id: str, *, handle: bool, fields: list[tuple[FieldSource, str, str]]
) -> None:
    """Replace what one of our users can be found by.

    Args:
        handle: whether they are found by their handle.
        fields: vocabulary, name and value of each.
    """
    rows = [
        FieldRow(user_id=user_id, source=int(source), name=name, value=value)
        for source, name, value in fields
    ]
    if handle:
        localpart, domain = parse_user_id(user_id)
        for name, value in ((HANDLE, f"im:{localpart}@{domain}"), (USER, localpart)):
            rows.append(FieldRow(user_id=user_id, source=HANDLE_SOURCE, name=name, value=value))
    await node.store.put_fields(user_id, rows)


def _matches(node: Node, search: Search) -> set[str]:
    if not search.exact:
        return set(node.store.find_containing(search.within, search.value, limit=MAX_MATCHES))
    return {
        user_id
        for source, names in search.exact
        for user_id in node.store.find_exactly(
            source, names, _normal(source, search.value), limit=MAX_MATCHES
        )
    }


def _normal(source: int, value: str) -> str:
    """A handle may also be given as the user's MIMI URI."""
    if source != HANDLE_SOURCE:
        return value
    try:
        localpart, domain = parse_user_id(user_id_from_uri(value))
    except IdentifierError:  # not a URI: a handle, or the user part of one
        return value
    return f"im:{localpart}@{domain}"


def _profile(node: Node, user_id: str) -> UserProfile:
    return UserProfile(
        stable_uri=user_uri(user_id),
        fields=tuple(
            ProfileField(source=FieldSource(row.source), name=row.name, value=row.value.encode())
            for row in node.store.fields(user_id)
            if row.source != HANDLE_SOURCE
        ),
    )
