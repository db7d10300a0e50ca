"""Other users, and this one to them: consent, pseudonyms, being found."""

from __future__ import annotations

from collections.abc import Mapping

from linearized.client.answers import decode_binaries, encode_binary, json_object, json_objects, path_part
from linearized.client.calls.base import Calls
from linearized.client.paths import MLS
from linearized.client.transport import JsonObject


class PeopleCalls(Calls):
    """The part of ``ProviderApi`` for these."""

    # --- consent ---

    async def consents(self) -> list[JsonObject]:
        """Who asked for this user's consent or was asked for theirs, and what came of it, latest first."""
        answer = await self._transport.json("GET", f"{MLS}/consents", idempotent=True)
        return json_objects(answer.get("consents"))

    async def require_consent(self, *, required: bool) -> None:
        """Whether others need a grant before they can add this user to rooms."""
        await self._transport.json(
            "PUT", f"{MLS}/consents/required", body={"required": required}, idempotent=True
        )

    async def request_consent(self, user_id: str, *, room_id: str | None = None) -> None:
        """Ask a user for their consent to be added to a room, or to any."""
        await self._consent("request", user_id, room_id)

    async def cancel_consent(self, user_id: str, *, room_id: str | None = None) -> None:
        """Take such a request back."""
        await self._consent("cancel", user_id, room_id)

    async def grant_consent(
        self, user_id: str, *, room_id: str | None = None, key_packages: bool = False
    ) -> None:
        """Let a user add this one; with ``key_packages`` of this user's devices, right away."""
        await self._consent("grant", user_id, room_id, key_packages=key_packages)

    async def revoke_consent(self, user_id: str, *, room_id: str | None = None, tell: bool = False) -> None:
        """Do not let a user add this one; they hear of it only with ``tell``."""
        await self._consent("revoke", user_id, room_id, tell=tell)

    async def take_key_packages(self, user_id: str, *, room_id: str | None = None) -> list[bytes]:
        """The key packages that came with a user's grant; they are given once."""
        answer = await self._consent("key_packages", user_id, room_id, idempotent=False)
        return decode_binaries(answer, "key_packages")

    async def _consent(
        self, action: str, user_id: str, room_id: str | None, *, idempotent: bool = True, **more: bool
    ) -> JsonObject:
        body: JsonObject = {"user_id": user_id, **more}
        if room_id is not None:
            body["room_id"] = room_id
        return await self._transport.json(
            "POST", f"{MLS}/consents/{action}", body=body, idempotent=idempotent
        )

    # --- pseudonyms ---

    async def make_pseudonym(self, name: str, client: str, *, signature_key: bytes) -> JsonObject:
        """Make a pseudonym of this account and a client of it, both random UUIDs; the provider's signed
        statement that this device, under its real name, has the raw ``signature_key``.
        """
        answer = await self._transport.json(
            "PUT",
            f"{MLS}/pseudonyms/{path_part(name)}/{path_part(client)}",
            body={"signature_key": encode_binary(signature_key)},
            idempotent=True,
        )
        return json_object(answer, "statement")

    async def forget_pseudonym(self, user_id: str) -> None:
        """Have the provider forget whose a pseudonym is that has left its room; it is gone then."""
        name = user_id.removeprefix("@").partition(":")[0]
        await self._transport.json("DELETE", f"{MLS}/pseudonyms/{path_part(name)}", idempotent=False)

    async def pseudonyms(self) -> list[JsonObject]:
        """This account's pseudonyms, oldest first: ``user_id``, ``devices``, and the ``room_id`` it is
        for, once it is for one.
        """
        answer = await self._transport.json("GET", f"{MLS}/pseudonyms", idempotent=True)
        return json_objects(answer.get("pseudonyms"))

    # --- finding users ---

    async def find_users(self, domain: str, *conditions: Mapping[str, str]) -> list[JsonObject]:
        """The users of a provider whom all conditions fit: ``user_id``, and the ``fields`` they show.

        Args:
            conditions: ``type`` (handle, nick, email, phone, partial_name, whole_profile, oidc, vcard),
                ``value``, and for the last two ``name``.
        """
        answer = await self._transport.json(
            "POST",
            f"{MLS}/identifiers/query",
            body={"domain": domain, "query": [dict(condition) for condition in conditions]},
            idempotent=True,
        )
        return json_objects(answer.get("users"))

    async def be_found_by(self, *fields: Mapping[str, str], handle: bool = False) -> None:
        """Replace what this user can be found by: ``source`` (oidc, vcard), ``name`` and ``value`` of each
        field, and the handle.
        """
        body = {"handle": handle, "fields": [dict(field) for field in fields]}
        await self._transport.json("PUT", f"{MLS}/identifiers/profile", body=body, idempotent=True)
