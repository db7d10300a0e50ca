"""Minimal metadata rooms: a session of one pseudonym, in the one room it is for.

session = Session(...)                                 # of the real account, with its real device
bob = await new_pseudonym(session, storage)            # a pseudonym; nobody but our provider knows whose
handle = bob.handle                                    # goes to Alice, by a way that her provider cannot read
await alice.add(room_id, [handle])                     # Alice adds who has it, if the link in it holds
for client in await bob.identities(room_id): ...       # who is who, as members alone can tell

Everything else is as in ``Session``: items, messages and changes of the group name pseudonyms.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import openmls

from linearized.client.api import ProviderApi
from linearized.client.archive.reading import ArchivedMessage
from linearized.client.device import CIPHERSUITE, MlsDevice
from linearized.client.errors import ClientError, StateFileError, UntrustedIdentity
from linearized.client.identity import leaf_owner
from linearized.client.identity_links import RealIdentity, check_link, domain_of, pseudonyms_in, strangers_in
from linearized.client.session import Session
from linearized.client.state import SavedState
from linearized.client.storage import StateStorage
from linearized.client.transport import JsonObject
from linearized.mimi.content import SALT_BYTES, MimiContent, SinglePart
from linearized.mimi.identity_links import (
    LINK_KEY_BYTES,
    LINK_KEYS_TYPE,
    LINK_LABEL,
    MAX_LINK_KEYS,
    AttestedIdentityLink,
    IdentityLinkError,
    LinkKey,
    LinkKeys,
    seal_link,
)
from linearized.mimi.pseudonyms import (
    MINIMAL_METADATA,
    IdentityLinkTBE,
    PseudonymousCredential,
    PseudonymousCredentialTBS,
)
from linearized.protocol.canonical import canonical_json
from linearized.protocol.identifiers import user_domain, user_id_from_uri

# A pseudonym is added to one room, and perhaps again after it was removed: beside the package of last resort
# one is enough.
KEY_PACKAGES = 1
_DRAWN_BYTES = 32

Documents = dict[str, list[JsonObject]]
"""What providers say of their signing keys, by name, asked for once in each act."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownClient:
    """A client in a minimal metadata room.

    ``user_id`` and ``client_uri`` are the pseudonyms, empty for a leaf that has none of its own; ``real`` is
    who it is, or None and then ``fault`` says why this is not known, or not believed.
    """

    user_id: str
    client_uri: str
    real: RealIdentity | None
    fault: str | None = None


class _Pairs:
    """Which pseudonym of a room is whose: the first that is found counts, in both directions."""

    def __init__(self) -> None:
        self._pseudonyms: dict[str, str] = {}
        self._users: dict[str, str] = {}

    def fault(self, pseudonym: str, user_id: str) -> str | None:
        """Note that a pseudonym is a user's; why it cannot be, or None."""
        # "In any given room, the user_pseudonym of a client MUST be the same across all clients of a user".
        if self._pseudonyms.setdefault(user_id, pseudonym) != pseudonym:
            return f"{user_id} is in the room under another pseudonym"
        if self._users.setdefault(pseudonym, user_id) != user_id:
            return "the pseudonym is another user's already"
        return None


class PseudonymousSession(Session):
    """See the module. Made by ``new_pseudonym`` and ``open_pseudonym``."""

    def __init__(self, api: ProviderApi, device: MlsDevice, credential: PseudonymousCredential) -> None:
        super().__init__(api, device, key_packages=KEY_PACKAGES)
        self._credential = credential

    @property
    def handle(self) -> str:
        """What somebody needs to add this pseudonym to a room. Whoever has it learns who this is."""
        uri = self._credential.client_pseudonym
        return LinkKey(client_pseudonym=uri, key=self.device.state.link_keys[uri]).handle()

    async def create_minimal_room(
        self, *, handles: Sequence[str] = (), policy: object = None, **body: Any
    ) -> str:
        """Create a minimal metadata room and its group, and add who has the handles; the room ID.

        Raises:
            UntrustedIdentity: as ``add``; the room and its group have been created.
            ApiError, CommitRefused: as ``Session.create_room``.
        """
        content = {**body.pop("creation_content", {}), MINIMAL_METADATA: True}
        room_id = await self.create_room(policy=policy, creation_content=content, **body)
        if handles:
            await self.add(room_id, handles)
        return room_id

    async def add(
        self, room_id: str, handles: Sequence[str], *, expected: Sequence[str] | None = None
    ) -> list[RealIdentity]:
        """Add the pseudonyms with these handles, in one commit, and tell everybody in the room who is who.

        Args:
            expected: user IDs of whom they must be, in the same order.

        Returns:
            Who they are.

        Raises:
            UntrustedIdentity: a handle is malformed, its link does not hold, it is of somebody else than was
                expected, or that user is in the room already under another pseudonym. Nobody was added.
            ValueError: there are not as many ``expected`` as ``handles``.
            KeyMaterialUnavailable, CommitRefused, CommitLost, NotInGroup, ApiError, ServerUnreachable: as
                ``Handshakes.invite``.
        """
        if expected is not None and len(expected) != len(handles):
            raise ValueError("there is one expected user for each handle")
        given = [_parsed(handle) for handle in handles]
        keys = {key.client_pseudonym: key.key for key, _ in given}
        documents: Documents = {}
        present = await self._identities(room_id, documents)
        pairs = _Pairs()
        for client in present:
            if client.real is not None:
                pairs.fault(client.user_id, client.real.user_id)
        users: dict[str, list[bytes]] = {}
        people: dict[str, RealIdentity] = {}
        for user_id in dict.fromkeys(user_id for _, user_id in given):
            users[user_id] = []
            for package, uri, real in await self._introduced(room_id, user_id, keys, documents):
                fault = pairs.fault(user_id, real.user_id)
                if fault is not None:
                    raise UntrustedIdentity(fault)
                users[user_id].append(package)
                people[uri] = real
        found = [people.get(key.client_pseudonym) for key, _ in given]
        checked = [real for real in found if real is not None]
        if len(checked) < len(found):
            raise UntrustedIdentity("a client whose handle was given has no key package")
        for real, wanted in zip(checked, expected or [real.user_id for real in checked], strict=True):
            if real.user_id != wanted:
                raise UntrustedIdentity(f"the handle is of {real.user_id}, not of {wanted}")
        self.device.state.link_keys.update(keys)
        self.device.owe_link_keys(room_id)
        # Whatever happens after the commit, those who came in by it get to know who is there.
        self.device.save()
        await self.groups.add_users(room_id, users)
        await self.share(room_id)
        return checked

    async def _introduced(
        self, room_id: str, user_id: str, keys: Mapping[str, bytes], documents: Documents
    ) -> list[tuple[bytes, str, RealIdentity]]:
        """The key packages of a pseudonym's clients of which a key is known, each with the client's URI and
        who it is. Others cannot be told from somebody whom a server slipped in, and are left out.
        """
        found: list[tuple[bytes, str, RealIdentity]] = []
        for package in await self.groups.key_packages(room_id, user_id):
            info = openmls.inspect_key_package(package, now=self.api.clock() // 1000)
            owner = leaf_owner(info.credential, signature_key=info.signature_key)
            key = keys.get(owner.client_uri) or self.device.state.link_keys.get(owner.client_uri)
            if owner.pseudonym is not None and key is not None:
                real = await self._check(owner.pseudonym, key, documents)
                found.append((package, owner.client_uri, real))
        return found

    async def share(self, room_id: str) -> None:
        """Send the keys of all identity links in the room to everybody in it; in vain outside of it.

        It goes by itself after ``add``. Call it when somebody says that they cannot tell who is there.
        """
        known = self.device.state.link_keys
        present = sorted(pseudonyms_in(self.device, room_id).keys() & known.keys())
        for start in range(0, len(present), MAX_LINK_KEYS):
            keys = tuple(
                LinkKey(client_pseudonym=uri, key=known[uri])
                for uri in present[start : start + MAX_LINK_KEYS]
            )
            part = SinglePart(content_type=LINK_KEYS_TYPE, content=LinkKeys(keys=keys).encode())
            await self.send(room_id, MimiContent(salt=_draw(self.api)[:SALT_BYTES], part=part))
        if room_id in self.device.state.unshared:
            self.device.state.unshared.remove(room_id)
            self.device.save()

    async def tidy(self) -> None:
        """As ``Session.tidy``; and tell who is who where that was left undone."""
        for room_id in list(self.device.state.unshared):
            try:
                await self.share(room_id)
            except ClientError:  # not now; the sync that follows must not wait for it
                continue
        await super().tidy()

    async def identities(self, room_id: str) -> list[KnownClient]:
        """Who is in a room, client by client, in the order of the group's leaves; at the end those leaves
        that should not be in such a room.

        A user who is in the room under a second pseudonym is not believed there.

        Raises:
            ApiError, ServerUnreachable, MalformedAnswer: a provider's keys cannot be had for now.
        """
        return await self._identities(room_id, {})

    async def sender_of(self, message: ArchivedMessage) -> RealIdentity:
        """Who sent a message that another device of this user archived, also if they have left since.

        Raises:
            UntrustedIdentity: neither device knows, or it does not hold.
            ApiError, ServerUnreachable, MalformedAnswer: their provider's keys cannot be had for now.
        """
        introduction = message.introduction
        key = self.device.state.link_keys.get(message.client_uri)
        if introduction is not None:
            key = introduction.key or key
        if introduction is None or key is None:
            raise UntrustedIdentity("nobody has told who this is")
        return await self._check(PseudonymousCredential.decode(introduction.credential), key, {})

    async def _identities(self, room_id: str, documents: Documents) -> list[KnownClient]:
        pairs = _Pairs()
        found: list[KnownClient] = []
        for uri, credential in pseudonyms_in(self.device, room_id).items():
            user_id = user_id_from_uri(credential.user_pseudonym)
            key = self.device.state.link_keys.get(uri)
            real: RealIdentity | None = None
            fault: str | None = "nobody has told who this is"
            if key is not None:
                try:
                    real, fault = await self._check(credential, key, documents), None
                except UntrustedIdentity as error:
                    fault = str(error)
            if real is not None:
                fault = pairs.fault(user_id, real.user_id)
            if fault is not None:
                real = None
            found.append(KnownClient(user_id=user_id, client_uri=uri, real=real, fault=fault))
        strangers = strangers_in(self.device, room_id)
        return [*found, *(KnownClient(user_id="", client_uri="", real=None, fault=one) for one in strangers)]

    async def _check(
        self, credential: PseudonymousCredential, key: bytes, documents: Documents
    ) -> RealIdentity:
        domain = domain_of(credential)
        if domain not in documents:
            # Asked of our own provider, and by the provider's name: it learns nothing that the room's log
            # does not tell it.
            if domain == user_domain(self.device.owner.user_id):
                documents[domain] = [await self.api.server_keys()]
            else:
                documents[domain] = await self.api.keys_of(domain)
        return check_link(credential, key, documents[domain])


async def new_pseudonym(
    session: Session, storage: StateStorage, *, of: str | None = None
) -> PseudonymousSession:
    """Make a pseudonym for the account of ``session``, whose device signs for it.

    Args:
        storage: where the pseudonym's own state is kept; nothing else may be in it.
        of: the user ID of a pseudonym of this account that this is to be one more client of, as
            ``ProviderApi.pseudonyms`` lists them.

    Raises:
        StateFileError: there is something in the storage.
        ApiError, ServerUnreachable: the provider makes none, or ``of`` is somebody else's.
    """
    if storage.load() is not None:
        raise StateFileError("there is a state already where the pseudonym's is to be")
    api, real = session.api, session.device
    name = _random_uuid(api) if of is None else of.removeprefix("@").partition(":")[0]
    client, domain = _random_uuid(api), user_domain(real.owner.user_id)
    answer = await api.make_pseudonym(name, client, signature_key=real.client.signature_key)
    keys = openmls.SignatureKeyPair.generate(ciphersuite=CIPHERSUITE)
    signed = PseudonymousCredentialTBS(
        client_pseudonym=f"mimi://{domain}/d/{name}/{client}",
        user_pseudonym=f"mimi://{domain}/u/{name}",
        signature_public_key=keys.public_key,
    )
    link = AttestedIdentityLink(
        link=IdentityLinkTBE(
            pseudonymous_credential_signature=real.client.sign_with_label(
                label=LINK_LABEL, content=signed.encode()
            ),
            client_credential=real.client.credential,
        ),
        statement=canonical_json(answer),
    )
    link_key = _draw(api)[:LINK_KEY_BYTES]
    credential = PseudonymousCredential(
        client_pseudonym=signed.client_pseudonym,
        user_pseudonym=signed.user_pseudonym,
        signature_public_key=signed.signature_public_key,
        identity_link_ciphertext=seal_link(link_key, signed, link),
    )
    mls = openmls.Client.create(identity=credential.encode(), ciphersuite=CIPHERSUITE, signature_key=keys)
    state = SavedState(mls=b"", link_keys={credential.client_pseudonym: link_key})
    device = MlsDevice(mls, state, storage)
    device.save()
    made = _session(api, device, credential)
    await made.upload_key_packages()
    return made


def open_pseudonym(session: Session, storage: StateStorage) -> PseudonymousSession:
    """Continue with a pseudonym of the account of ``session``.

    Raises:
        StateFileError: there is no pseudonym's state in the storage.
    """
    device = MlsDevice.load(storage)
    if device is None or device.owner.pseudonym is None:
        raise StateFileError("there is no pseudonym's state")
    return _session(session.api, device, device.owner.pseudonym)


def _parsed(handle: str) -> tuple[LinkKey, str]:
    """A handle's key, and the user ID of the pseudonym that it is of."""
    try:
        key = LinkKey.parse(handle)
    except IdentityLinkError as error:
        raise UntrustedIdentity(str(error)) from error
    return key, user_of_client(key.client_pseudonym)


def user_of_client(client_pseudonym: str) -> str:
    """The user ID of the pseudonym that a client's names: ``mimi://a.example/d/<user>/<client>``.

    Raises:
        UntrustedIdentity: it names none.
    """
    start, _, rest = client_pseudonym.partition("/d/")
    name, slash, _ = rest.partition("/")
    if not slash or not start.startswith("mimi://"):
        raise UntrustedIdentity("a client's pseudonym does not name its user's")
    return f"@{name}:{start.removeprefix('mimi://')}"


def _session(api: ProviderApi, device: MlsDevice, credential: PseudonymousCredential) -> PseudonymousSession:
    own = api.as_pseudonym(device.owner.user_id, device.owner.device_id)
    return PseudonymousSession(own, device, credential)


def _draw(api: ProviderApi) -> bytes:
    """32 random bytes, from the same source as tokens."""
    return sha256(api.ids(_DRAWN_BYTES).encode()).digest()


def _random_uuid(api: ProviderApi) -> str:
    return str(uuid.UUID(bytes=_draw(api)[:16], version=4))
