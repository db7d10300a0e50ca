"""How somebody becomes one person on both sides: they give a token, and prove an address.

Whose the token is, the homeserver says. That the address is theirs, the address has to say itself, in a
message of a bridged room, which its MLS credential signs: ``!mimi link @alice:matrix.example CODE``. The code
was given to the user alone and is good once, for this address, for an hour. It names the user, so nobody is
talked into saying it without seeing for whom; and who overhears it cannot use it, because it counts from this
address only.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Final

import httpx
import structlog

from bridges.matrix.commands import PREFIX
from bridges.matrix.doubles.records import LINK, Double, Doubles
from bridges.matrix.doubles.user_api import UserApi
from bridges.matrix.failures import is_passing
from bridges.matrix.names import Names
from bridges.matrix.notices import Notices
from linearized.client import ApiError
from linearized.exceptions import IdentifierError
from linearized.mimi.content import MimiContent, MultiPart, Part, SinglePart
from linearized.protocol.identifiers import user_id_from_uri, user_uri

# Time to find the other device and a room that both share; a code that lies about for longer helps nobody.
CODE_MS: Final = 3_600_000
# 128 bits: nobody guesses it within the hour.
_CODE_BYTES: Final = 16
# Tokens that are JSON Web Tokens have one or two thousand characters.
MAX_TOKEN: Final = 4096

log = structlog.get_logger(__name__)


class LoginRefused(Exception):  # noqa: N818 - an answer to a person, not a failure
    """The text says why, to whoever asked, and quotes no token."""


class Login:
    """Makes and ends links. ``bot`` is the bridge's user at the provider; ``clock`` gives milliseconds."""

    def __init__(
        self,
        *,
        doubles: Doubles,
        base_url: str,
        http: httpx.AsyncClient,
        names: Names,
        bot: str,
        notices: Notices,
        clock: Callable[[], int],
        ids: Callable[[int], str],
    ) -> None:
        self._doubles = doubles
        self._base_url, self._http = base_url, http
        self._names = names
        self._bot = bot
        self._notices = notices
        self._clock = clock
        self._ids = ids

    async def login(self, user_id: str, token: str, uri: str | None, *, chat: str) -> str:
        """Keep a user's token for an address (``None``: the one it was proved for before); gives what they
        have to say from there, empty if nothing.

        Raises:
            LoginRefused: the token or the address is none of theirs.
            ClientError: the homeserver is away.
        """
        if len(token) > MAX_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
            raise LoginRefused("That is no access token.")
        before = self._doubles.of_user(user_id)
        if uri is None:
            if before is None:
                raise LoginRefused("Say which address is yours, too: mimi://PROVIDER/u/USER.")
            uri = before.uri
        uri = self._address(uri)
        await self._check(user_id, token)
        log.info("a token was given", user_id=user_id)
        if before is not None and before.linked and before.uri == uri:
            self._doubles.renew(user_id, token, chat)
            return ""
        # Asking again gives the same, so that what was shown to them holds whatever was lost on the way.
        asked = before is not None and before.uri == uri and self._clock() <= before.until
        code = before.code if before is not None and asked else self._ids(_CODE_BYTES)
        pending = Double(
            user_id=user_id,
            uri=uri,
            chat=chat,
            code=code,
            until=self._clock() + CODE_MS,
            linked=False,
            has_token=True,
        )
        self._doubles.put(pending, token)
        return pending.sentence

    def _address(self, uri: str) -> str:
        try:
            user = user_id_from_uri(uri)
        except IdentifierError:
            raise LoginRefused("The address is no user's URI, mimi://PROVIDER/u/USER.") from None
        if self._names.is_bridged(user) or user == self._bot:
            raise LoginRefused("The bridge itself speaks from that address.")
        return user_uri(user)

    async def _check(self, user_id: str, token: str) -> None:
        try:
            owner = await UserApi(self._base_url, token=token, http=self._http).whoami()
        except ApiError as error:
            if is_passing(error):
                raise
            raise LoginRefused("The homeserver does not take that token.") from None
        if owner != user_id:
            raise LoginRefused("That token is somebody else's.")

    def logout(self, user_id: str) -> bool:
        """Forget a user's token and address; whether there was any."""
        log.info("a token is forgotten", user_id=user_id)
        return self._doubles.remove(user_id)

    def whoami(self, user_id: str) -> Double | None:
        """A user's link, proved or not."""
        return self._doubles.of_user(user_id)

    async def heard(self, uri: str, content: MimiContent) -> bool:
        """Somebody at a provider said something: whether it was what proves their address, and so for us.

        Raises:
            ClientError: the homeserver is away; hearing it again is right.
        """
        if content.replaces is not None:
            return False
        return any([await self._proves(uri, text) for text in _texts(content.part)])

    async def _proves(self, uri: str, text: str) -> bool:
        match text.split(maxsplit=4):
            case [prefix, verb, user_id, code] if (prefix, verb) == (PREFIX, LINK):
                double = self._doubles.of_user(user_id)
            case _:
                return False
        if double is None or double.uri != uri:
            return False
        if not hmac.compare_digest(double.code.encode(), code.encode()):
            return False
        # Once it is linked, this is what was heard before the bridge was stopped.
        if not double.linked and self._clock() > double.until:
            return False
        other = self._doubles.link(double)
        log.info("an address is proved", user_id=user_id, uri=uri)
        await self._tell(double, f"From now on, what {uri} says in bridged rooms comes from you.")
        if other is not None:
            await self._tell(other, f"{uri} is {user_id} now, and no longer you.", about=double)
        return True

    async def _tell(self, double: Double, text: str, *, about: Double | None = None) -> None:
        if double.chat:
            txn_id = f"linked-{(about or double).code}-{double.user_id}"
            await self._notices.say(double.chat, text, txn_id=txn_id)

    async def lost(self, user_id: str, token: str) -> None:
        """The homeserver no longer takes a user's token: they are told, once, and their ghost speaks.

        Raises:
            ClientError: the homeserver is away.
        """
        double = self._doubles.of_user(user_id)
        if double is None:
            return
        log.warning("a token is no longer valid", user_id=user_id)
        if double.chat:
            text = (
                "Your access token no longer works. Until you give me another (login TOKEN), what"
                f" {double.uri} says comes from their ghost."
            )
            digest = sha256(token.encode()).hexdigest()
            await self._notices.say(double.chat, text, txn_id=f"token-lost-{digest}")
        self._doubles.drop_token(user_id, token)


def _texts(part: Part) -> Iterator[str]:
    """Every text of a message, whichever its client would show."""
    if isinstance(part, MultiPart):
        for child in part.parts:
            yield from _texts(child)
    elif isinstance(part, SinglePart) and part.content_type.startswith("text/"):
        yield part.text
