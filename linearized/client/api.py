"""The client-server API of a provider, one typed method per endpoint.

Matrix endpoints are those of the Matrix client-server specification v1.13; the MLS additions live under
``/_matrix/client/unstable/dev.linearized.1``. Every method raises ``ApiError`` when the server refuses,
``ServerUnreachable`` without an answer and ``MalformedAnswer`` for an answer that is not what it should
be. Times are milliseconds since the Unix epoch. ``bytes`` travel as unpadded standard base64.
"""

from __future__ import annotations

from collections.abc import Callable

import httpx

from linearized.client.answers import LoginResult, json_string
from linearized.client.calls.archives import ArchiveCalls
from linearized.client.calls.files import FileCalls
from linearized.client.calls.groups import GroupCalls
from linearized.client.calls.logs import LogCalls
from linearized.client.calls.people import PeopleCalls
from linearized.client.calls.rooms import RoomCalls
from linearized.client.paths import V3
from linearized.client.transport import JsonObject, Transport

# Names the pseudonym that an account acts as.
PSEUDONYM_PARAMETER = "dev.linearized.pseudonym"


class ProviderApi(RoomCalls, LogCalls, GroupCalls, PeopleCalls, FileCalls, ArchiveCalls):
    """A user's or an application service's view of one provider.

    Args:
        base_url: ``https://a.example:8448`` without a trailing slash.
        token: access token, or ``None`` before ``login``.
        user_id, device_id: with an application service's token, whom to act as.
        pseudonym: with an account's token, the pseudonym of it to act as; ``device_id`` is one of that.
        http: the connection pool; its owner closes it.
        clock: milliseconds since the Unix epoch.
        ids: a random URL-safe token of that many bytes.
    """

    def __init__(
        self,
        base_url: str,
        *,
        token: str | None,
        user_id: str | None = None,
        device_id: str | None = None,
        pseudonym: str | None = None,
        http: httpx.AsyncClient,
        clock: Callable[[], int],
        ids: Callable[[int], str],
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.user_id = user_id
        self.device_id = device_id
        self.clock = clock
        self.ids = ids
        self._token = token
        self._http = http
        query = {"user_id": user_id, "device_id": device_id, PSEUDONYM_PARAMETER: pseudonym}
        self._transport = Transport(
            base_url=self.base_url,
            token=token,
            http=http,
            query={name: value for name, value in query.items() if value is not None},
        )

    def __repr__(self) -> str:
        return f"ProviderApi({self.base_url!r}, user_id={self.user_id!r}, device_id={self.device_id!r})"

    def as_user(self, user_id: str, device_id: str | None = None) -> ProviderApi:
        """The same server and application service token, acting as another user (and device)."""
        return ProviderApi(
            self.base_url,
            token=self._token,
            user_id=user_id,
            device_id=device_id,
            http=self._http,
            clock=self.clock,
            ids=self.ids,
        )

    def as_pseudonym(self, pseudonym: str, device_id: str) -> ProviderApi:
        """The same account, acting as a device of one of its pseudonyms (a user ID)."""
        return ProviderApi(
            self.base_url,
            token=self._token,
            pseudonym=pseudonym,
            device_id=device_id,
            http=self._http,
            clock=self.clock,
            ids=self.ids,
        )

    def with_login(self, login: LoginResult) -> ProviderApi:
        """The same server with the access token of a login."""
        return ProviderApi(
            self.base_url, token=login.access_token, http=self._http, clock=self.clock, ids=self.ids
        )

    # --- session ---

    async def login(self, user: str, password: str, *, device_id: str | None = None) -> LoginResult:
        """``POST /login`` with a password. A lost answer may leave a device behind; it is not repeated."""
        body: JsonObject = {
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": user},
            "password": password,
        }
        return await self._login(body, device_id)

    async def login_application_service(self, user: str, *, device_id: str) -> LoginResult:
        """``POST /login`` as an application service for one of its users; creates the device."""
        body: JsonObject = {
            "type": "m.login.application_service",
            "identifier": {"type": "m.id.user", "user": user},
        }
        return await self._login(body, device_id)

    async def _login(self, body: JsonObject, device_id: str | None) -> LoginResult:
        if device_id is not None:
            body["device_id"] = device_id
        answer = await self._transport.json("POST", f"{V3}/login", body=body, idempotent=False)
        return LoginResult(
            user_id=json_string(answer, "user_id"),
            device_id=json_string(answer, "device_id"),
            access_token=json_string(answer, "access_token"),
        )

    async def register_application_service(self, username: str) -> JsonObject:
        """``POST /register`` with ``m.login.application_service``; ``M_USER_IN_USE`` is the caller's to
        accept.
        """
        body = {"type": "m.login.application_service", "username": username, "inhibit_login": True}
        return await self._transport.json("POST", f"{V3}/register", body=body, idempotent=False)

    async def whoami(self) -> JsonObject:
        """``GET /account/whoami``."""
        return await self._get("/account/whoami")

    async def logout(self) -> None:
        """``POST /logout``."""
        await self._transport.json("POST", f"{V3}/logout", body={}, idempotent=False)
