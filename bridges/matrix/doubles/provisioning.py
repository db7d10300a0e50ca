"""The provisioning API's part about people with two accounts: what ``login`` and its kin are in a chat.

    GET    …/doubles/{user}    what is known of a user
    PUT    …/doubles/{user}    a token, ``{"access_token": …, "uri": "mimi://…"}``
    DELETE …/doubles/{user}    forget both

``say`` in an answer is what the user has to say from the address, to prove it; ``null`` if nothing is left to
prove.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from bridges.matrix.doubles.login import Login, LoginRefused
from bridges.matrix.failures import EXPECTED
from bridges.matrix.names import Names
from bridges.matrix.provisioning import ProvisioningError

# Twice the longest token.
MAX_BODY: Final = 8192


class DoublesProvisioning:
    """Answers requests about users of the homeserver."""

    def __init__(self, login: Login, names: Names) -> None:
        self._login = login
        self._names = names

    async def answer(self, method: str, user_id: str, body: bytes) -> dict[str, Any]:
        """The body of the answer.

        Raises:
            ProvisioningError: it is refused.
        """
        if not self._names.is_bridged(user_id):
            raise ProvisioningError(404, "M_NOT_FOUND", f"{user_id} is no user of this homeserver")
        if method == "PUT":
            return await self._put(user_id, body)
        if method == "DELETE":
            self._login.logout(user_id)
            return {}
        double = self._login.whoami(user_id)
        if double is None:
            raise ProvisioningError(404, "M_NOT_FOUND", f"{user_id} has given no token")
        return {
            "user_id": user_id,
            "uri": double.uri,
            "linked": double.linked,
            "token_works": double.has_token,
            "say": None if double.linked else double.sentence,
        }

    async def _put(self, user_id: str, body: bytes) -> dict[str, Any]:
        token, uri = _asked(body)
        try:
            sentence = await self._login.login(user_id, token, uri, chat="")
        except LoginRefused as refusal:
            raise ProvisioningError(400, "M_INVALID_PARAM", str(refusal)) from None
        except EXPECTED as error:
            raise ProvisioningError(502, "M_UNKNOWN", f"The homeserver does not answer: {error}") from None
        return {"say": sentence or None}


def _asked(body: bytes) -> tuple[str, str | None]:
    if len(body) > MAX_BODY:
        raise ProvisioningError(413, "M_TOO_LARGE", f"The body may have {MAX_BODY} bytes")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise ProvisioningError(400, "M_NOT_JSON", "The body is not JSON") from None
    match value:
        case {"access_token": str(token), "uri": str(uri)}:
            return token, uri
        case {"access_token": str(token)} if "uri" not in value:
            return token, None
    raise ProvisioningError(400, "M_BAD_JSON", "The body needs access_token, and uri as a text if at all")
