"""Finding a user's URI at another provider (draft-ietf-mimi-protocol-06, "Find internal address")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import Annotated

from linearized.mimi.app_data import NO_APP_DATA, AppDataDictionary
from linearized.mimi.tls import (
    MAX_URI_BYTES,
    Bytes,
    Enumeration,
    String,
    Struct,
    Text,
    UnknownValue,
    Uri,
    Vector,
    When,
)


class SearchIdentifierType(IntEnum):
    """What a query element searches; the select has no default, so no other can be read."""

    HANDLE = 1
    NICK = 2
    EMAIL = 3
    PHONE = 4
    PARTIAL_NAME = 5
    WHOLE_PROFILE = 6
    OIDC_STD_CLAIM = 7
    VCARD_FIELD = 8


class IdentifierQueryCode(IntEnum):
    """How the query went."""

    SUCCESS = 0
    NOT_FOUND = 1
    AMBIGUOUS = 2
    FORBIDDEN = 3
    UNSUPPORTED_FIELD = 4


class FieldSource(IntEnum):
    """The vocabulary a profile field's name is from."""

    OIDC_STD_CLAIM = 7
    VCARD_FIELD = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryElement(Struct):
    """One condition; ``claim_name`` and ``property_name`` go with the search types named after them."""

    search_type: Annotated[SearchIdentifierType, Enumeration(SearchIdentifierType)]
    claim_name: Annotated[str | None, When("search_type", (SearchIdentifierType.OIDC_STD_CLAIM,), Text())] = (
        None
    )
    property_name: Annotated[str | None, When("search_type", (SearchIdentifierType.VCARD_FIELD,), Text())] = (
        None
    )
    search_value: String


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentifierRequest(Struct):
    """The body of ``POST /identifierQuery/{domain}``; all elements "have to match (AND semantics)"."""

    query_elements: Annotated[tuple[QueryElement, ...], Vector(QueryElement)]
    extensions: AppDataDictionary = NO_APP_DATA


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileField(Struct):
    """One field of a found profile."""

    source: Annotated[FieldSource | UnknownValue, Enumeration(FieldSource, extensible=True, reserved=(0,))]
    name: String
    value: Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class UserProfile(Struct):
    """A user the query found."""

    stable_uri: Uri
    fields: Annotated[tuple[ProfileField, ...], Vector(ProfileField)] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentifierResponse(Struct):
    """The answer: user URIs, and as much of their profiles as the provider shows."""

    code: Annotated[IdentifierQueryCode | UnknownValue, Enumeration(IdentifierQueryCode, extensible=True)]
    uris: Annotated[tuple[str, ...], Vector(Text("ascii", MAX_URI_BYTES))] = ()
    found_profiles: Annotated[tuple[UserProfile, ...], Vector(UserProfile)] = ()
    extensions: AppDataDictionary = NO_APP_DATA


HANDLE_SOURCE = 1
"""In the place of a vocabulary: the handle itself, under ``HANDLE`` as ``im:alice@a.example`` and under
``USER`` without the provider."""
HANDLE, USER = "handle", "user"
_OIDC, _VCARD = int(FieldSource.OIDC_STD_CLAIM), int(FieldSource.VCARD_FIELD)

OIDC_CLAIMS = frozenset(
    {
        "name",
        "given_name",
        "family_name",
        "middle_name",
        "nickname",
        "preferred_username",
        "profile",
        "website",
        "email",
        "phone_number",
    }
)
"""The UserInfo standard claims (OpenID Connect Core, section 5.1) by which a person is looked for."""
VCARD_PROPERTIES = frozenset({"FN", "N", "NICKNAME", "EMAIL", "TEL", "ORG", "TITLE", "ROLE", "URL"})
"""The vCard properties likewise."""
NAMES = ("name", "given_name", "family_name", "middle_name", "nickname", "FN", "N", "NICKNAME")

# A substring of fewer characters is in most people's names: the answer would be a list of users.
MIN_SUBSTRING = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What a query element looks for.

    Attributes:
        exact: pairs of a vocabulary (``FieldSource``, or ``HANDLE_SOURCE``) and the names in it that may have
            the value; empty for a substring search.
        within: for a substring search, the names of the fields; None for all of them.
        value: what to look for.
    """

    exact: tuple[tuple[int, tuple[str, ...]], ...] = ()
    within: tuple[str, ...] | None = None
    value: str


_EXACT: Mapping[SearchIdentifierType, tuple[tuple[int, tuple[str, ...]], ...]] = MappingProxyType(
    {
        SearchIdentifierType.HANDLE: ((HANDLE_SOURCE, (HANDLE,)),),
        SearchIdentifierType.NICK: (
            (HANDLE_SOURCE, (USER,)),
            (_OIDC, ("nickname", "preferred_username")),
            (_VCARD, ("NICKNAME",)),
        ),
        SearchIdentifierType.EMAIL: ((_OIDC, ("email",)), (_VCARD, ("EMAIL",))),
        SearchIdentifierType.PHONE: ((_OIDC, ("phone_number",)), (_VCARD, ("TEL",))),
    }
)
_WITHIN: Mapping[SearchIdentifierType, tuple[str, ...] | None] = MappingProxyType(
    {SearchIdentifierType.PARTIAL_NAME: NAMES, SearchIdentifierType.WHOLE_PROFILE: None}
)


def search_of(element: QueryElement) -> Search | IdentifierQueryCode:
    """What an element looks for, or the code that answers the whole query: ``UNSUPPORTED_FIELD`` for a claim
    or property nobody can be found by, ``AMBIGUOUS`` for a substring that is too short.
    """
    kind, value = element.search_type, element.search_value
    if kind in _EXACT:
        return Search(exact=_EXACT[kind], value=value)
    if kind in _WITHIN:
        if len(value) < MIN_SUBSTRING:
            return IdentifierQueryCode.AMBIGUOUS
        return Search(within=_WITHIN[kind], value=value)
    if element.claim_name in OIDC_CLAIMS:
        return Search(exact=((_OIDC, (element.claim_name,)),), value=value)
    if element.property_name in VCARD_PROPERTIES:
        return Search(exact=((_VCARD, (element.property_name,)),), value=value)
    return IdentifierQueryCode.UNSUPPORTED_FIELD
