"""``Authorization: X-Matrix``: which server sent a request (draft, Request Authentication)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from linearized.exceptions import InvalidInput, SignatureError
from linearized.protocol.base64 import encode_base64
from linearized.protocol.canonical import JsonObject, canonical_json, encode_checked
from linearized.protocol.identifiers import is_key_id, is_server_name
from linearized.protocol.signing import ServerIdentity, verify_message
from linearized.server.http import HttpError, Request

MAX_HEADERS = 4  # one for each signing key of a server; each costs a signature check
MAX_HEADER_CHARS = 4096  # two server names of 255, a key ID and a signature leave room for unknown parameters

_SCHEME = re.compile(r"x-matrix +", re.IGNORECASE)
# A parameter of RFC 9110, 11.2. Peers leave values unquoted that are no tokens (key IDs have a colon), so an
# unquoted value is anything up to a comma or white space.
_PARAMETER = re.compile(
    r"""(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+) [ \t]*=[ \t]*
        (?: "(?P<quoted>(?:[^"\\]|\\.)*)" | (?P<bare>[^",\s]*) )""",
    re.VERBOSE,
)
_BETWEEN = re.compile(r"[ \t]*(?:,[ \t]*)*")
_ESCAPED = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True, kw_only=True)
class XMatrix:
    """One parsed header; ``signature`` is base64 as sent."""

    origin: str
    destination: str
    key_id: str
    signature: str


class RequestKeys(Protocol):
    """What authentication needs of the key ring."""

    async def request_keys(self, server: str, key_ids: Sequence[str]) -> Mapping[str, bytes]:
        """Those of a server's keys that are valid now."""
        ...

    async def confirm(self, server: str) -> None:
        """A server has proved itself with one of them."""
        ...


def sign_request(
    identity: ServerIdentity, *, destination: str, method: str, uri: str, content: JsonObject | None
) -> str:
    """The value of the ``Authorization`` header for a request of ours.

    ``uri`` is the request target as sent; ``content`` the body, ``{}`` for none, None to sign no content at
    all.
    """
    encoded = None if content is None else canonical_json(content)
    return sign_encoded(identity, destination=destination, method=method, uri=uri, content=encoded)


def sign_encoded(
    identity: ServerIdentity, *, destination: str, method: str, uri: str, content: bytes | None
) -> str:
    """As ``sign_request``, for a body that is canonical JSON already: the same for many destinations, say."""
    message = canonical_json(
        {"destination": destination, "method": method, "origin": identity.name, "uri": uri}
    )
    if content is not None:
        # Canonical JSON of an object with a member more. Of all its names, this one sorts first.
        message = b'{"content":' + content + b"," + message[1:]
    signature = encode_base64(identity.key.sign(message))
    # The draft's example calls the parameter sig, as Matrix does, and its list of parameters signature;
    # unknown ones are ignored, so sending both reaches everybody.
    return (
        f'X-Matrix origin="{identity.name}",destination="{destination}",key="{identity.key.key_id}",'
        f'sig="{signature}",signature="{signature}"'
    )


def parse_header(value: str) -> XMatrix:
    """Parse one ``Authorization`` header.

    Raises:
        SignatureError: it is not a complete X-Matrix header.
    """
    scheme = _SCHEME.match(value)
    if scheme is None or len(value) > MAX_HEADER_CHARS:
        raise SignatureError("the Authorization header is not X-Matrix")
    parameters = _parameters(value, scheme.end())
    signature = parameters.get("sig", parameters.get("signature", ""))
    if parameters.get("signature", signature) != signature:
        raise SignatureError("the X-Matrix header has two signatures")
    header = XMatrix(
        origin=parameters.get("origin", ""),
        destination=parameters.get("destination", ""),
        key_id=parameters.get("key", ""),
        signature=signature,
    )
    if not is_server_name(header.origin) or not is_key_id(header.key_id) or not signature:
        raise SignatureError("the X-Matrix header lacks a valid origin, key or signature")
    return header


def _parameters(value: str, position: int) -> dict[str, str]:
    parameters: dict[str, str] = {}
    while position < len(value):
        match = _PARAMETER.match(value, position)
        if match is None:
            raise SignatureError("the X-Matrix header cannot be parsed")
        name = match["name"].lower()
        if name in parameters:
            raise SignatureError(f"the X-Matrix header has two values for {name}")
        quoted = match["quoted"]
        # "the recipient must unescape the characters"
        parameters[name] = match["bare"] if quoted is None else _ESCAPED.sub(r"\1", quoted)
        between = _BETWEEN.match(value, match.end())
        end = between.end() if between else match.end()
        if end < len(value) and "," not in value[match.end() : end]:
            raise SignatureError("the X-Matrix header cannot be parsed")
        position = end
    return parameters


def verify_header(
    header: XMatrix,
    *,
    method: str,
    uri: str,
    content: JsonObject | None,
    own_name: str,
    keys: Mapping[str, bytes],
    plain: bool | None = None,
) -> None:
    """Check one header's signature; ``keys`` are the origin's currently valid keys. ``plain`` is what
    ``check_json`` said of ``content``, if it has been walked already.

    Raises:
        SignatureError: wrong destination, unknown key or wrong signature.
    """
    # "destination - The name of the receiving server. MUST match the destination in the signed JSON."
    if header.destination != own_name:
        raise SignatureError("the request is for another server")
    known = {header.key_id: keys[header.key_id]} if header.key_id in keys else {}
    signatures = {header.key_id: header.signature}
    # "When a request doesn't contain a body, such as in GET requests, use an empty JSON object"; Matrix
    # servers sign no content then. Both are accepted.
    forms: list[JsonObject | None] = [content] if content is not None else [{}, None]
    for last, form in enumerate(forms, start=1 - len(forms)):
        message = _message(header.origin, header.destination, method, uri, form, plain=plain)
        try:
            verify_message(message, signatures, name=header.origin, keys=known)
        except SignatureError:
            if last == 0:
                raise
        else:
            return


@dataclass(frozen=True, slots=True)
class Claim:
    """A request that says which server it is from, and the keys by which it may prove it."""

    headers: tuple[XMatrix, ...]
    keys: Mapping[str, bytes]

    @property
    def origin(self) -> str:
        """The server it says it is from."""
        return self.headers[0].origin

    def prove(
        self, request: Request, content: JsonObject | None, *, own_name: str, plain: bool | None = None
    ) -> None:
        """Check every header; ``content`` is the parsed body, None for a request without one, and ``plain``
        what ``check_json`` said of it.

        Raises:
            HttpError: 401 ``M_FORBIDDEN``.
        """
        try:
            for header in self.headers:
                verify_header(
                    header,
                    method=request.method,
                    uri=request.raw_target,
                    content=content,
                    own_name=own_name,
                    keys=self.keys,
                    plain=plain,
                )
        except InvalidInput as error:
            raise _refused(error) from error


async def claimed(request: Request, *, own_name: str, keys: RequestKeys) -> Claim:
    """What a request's headers claim, before its body is read: a request that cannot be authentic whatever
    its body says costs no more than its headers.

    Raises:
        HttpError: 401 ``M_FORBIDDEN``.
        Crowded: from ``keys``.
    """
    # "Validate all presented Authorization headers. Ensure at least one Authorization header is present. If
    # either fails …, the request MUST be rejected with an HTTP 401 Unauthorized status code and M_FORBIDDEN
    # error code".
    try:
        headers = _parse_all(request.authorization)
        # "destination - The name of the receiving server. MUST match the destination in the signed JSON."
        if any(header.destination != own_name for header in headers):
            raise SignatureError("the request is for another server")
        key_ids = [header.key_id for header in headers]
        known = await keys.request_keys(headers[0].origin, key_ids)
        if not all(key_id in known for key_id in key_ids):
            raise SignatureError(f"a key of {headers[0].origin} is unknown or no longer valid")
    except InvalidInput as error:
        raise _refused(error) from error
    return Claim(tuple(headers), known)


async def authenticate(
    request: Request, content: JsonObject | None, *, own_name: str, keys: RequestKeys
) -> str:
    """The server that sent a request, proved by every X-Matrix header it came with.

    ``content`` is the parsed body, None for a request without one.

    Raises:
        HttpError: 401 ``M_FORBIDDEN``.
        Crowded: from ``keys``.
    """
    claim = await claimed(request, own_name=own_name, keys=keys)
    claim.prove(request, content, own_name=own_name)
    await keys.confirm(claim.origin)
    return claim.origin


def _refused(error: InvalidInput) -> HttpError:
    return HttpError(401, "M_FORBIDDEN", f"Signature error on request: {error}")


def _parse_all(values: Sequence[str]) -> list[XMatrix]:
    if not values:
        raise SignatureError("the request is not signed")
    if len(values) > MAX_HEADERS:
        raise SignatureError("the request has too many signatures")
    headers = [parse_header(value) for value in values]
    if len({header.origin for header in headers}) > 1:
        raise SignatureError("the request is signed by several servers")
    return headers


def _message(
    origin: str,
    destination: str,
    method: str,
    uri: str,
    content: JsonObject | None,
    *,
    plain: bool | None = None,
) -> bytes:
    signed: JsonObject = {"method": method, "uri": uri, "origin": origin, "destination": destination}
    if content is not None:
        signed["content"] = content
    # What is added around the content are texts under plain keys.
    return canonical_json(signed) if plain is None else encode_checked(signed, plain=plain)
