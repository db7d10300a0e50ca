"""One MLS client and its groups: everything a device does without the network.

A method either completes, with the whole state saved, or raises and leaves the saved state as it was.
Nothing here waits, so nothing can come in between: a message encrypted is a message in the outbox, a
commit made is a commit that will be recognised in the log, whenever the process dies.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import openmls

from linearized.client.errors import NotInGroup, StateFileError
from linearized.client.franks import safe_aad, with_claims
from linearized.client.identity import leaf_owner
from linearized.client.items import Item
from linearized.client.own_groups.commits import Change, digest
from linearized.client.own_groups.joining import Joining
from linearized.client.own_groups.looking import CIPHERSUITE, ROLE_ADMIN, ROLE_REGULAR, role_index
from linearized.client.pending import is_leaving
from linearized.client.state import Outgoing, SavedState
from linearized.client.storage import StateStorage
from linearized.exceptions import IdentifierError
from linearized.mimi.certificates import certified_credential
from linearized.mimi.content import MimiContent
from linearized.mimi.media_types import framed, leaf_components
from linearized.protocol.identifiers import client_uri

__all__ = [
    "CIPHERSUITE",
    "KEY_PACKAGE_LIFETIME",
    "ROLE_ADMIN",
    "ROLE_REGULAR",
    "Change",
    "MlsDevice",
    "digest",
    "role_index",
]

# 80 days: how long a key package may wait on the server for someone to use it; peers refuse more than 84.
KEY_PACKAGE_LIFETIME = 80 * 24 * 3600


NOTHING_SAID: Final[Mapping[int, bytes]] = MappingProxyType({})


class MlsDevice(Joining):
    """A device ``device_id`` of ``user_id``; made with ``open``."""

    @classmethod
    def open(
        cls,
        storage: StateStorage,
        *,
        user_id: str,
        device_id: str,
        certificates: Sequence[bytes] | None = None,
        signature_key: openmls.SignatureKeyPair | None = None,
        leaf_app_data: Mapping[int, bytes] = NOTHING_SAID,
    ) -> MlsDevice:
        """Continue from the saved state, or make a new client.

        Args:
            certificates: of a new client that is to have an X.509 credential: DER, its own first, which is
                for ``signature_key`` and names the client's URI in its ``subjectAltName``.
            signature_key: of a new client; drawn if there is none.
            leaf_app_data: what every leaf from now on says of the device beside what it knows, by component
                ID. It is not saved.

        Raises:
            StateFileError: the state is damaged, or belongs to another device.
            IdentifierError: the certificate is another client's, or for another key.
        """
        device = cls.load(storage)
        if device is None:
            identity = client_uri(user_id, device_id).encode() if certificates is None else None
            client = openmls.Client.create(
                identity=identity,
                certificates=certificates,
                ciphersuite=CIPHERSUITE,
                signature_key=signature_key,
            )
            device = cls(client, SavedState(mls=b""), storage)
            if device.owner.client != (user_id, device_id):
                raise IdentifierError("the certificate is another client's")
            device.save()
        if device.owner.client != (user_id, device_id):
            raise StateFileError("the saved state belongs to another device")
        device.leaf_app_data = {**leaf_components(), **leaf_app_data}
        return device

    @classmethod
    def load(cls, storage: StateStorage) -> MlsDevice | None:
        """Continue from the saved state, whosever it is; None if there is none.

        Raises:
            StateFileError: the state is damaged.
        """
        saved = storage.load()
        if saved is None:
            return None
        state = SavedState.decode(saved)
        try:
            client = openmls.Client.load(state.mls)
        except openmls.MlsError as error:
            raise StateFileError("the saved MLS state is damaged") from error
        return cls(client, state, storage)

    # --- certificates ---

    def renew(self, certificates: Sequence[bytes]) -> None:
        """Have other certificates for the signature key of this device; see ``Session.renew_certificates``.

        Args:
            certificates: DER, the device's own first.

        Raises:
            IdentifierError: they are another client's, or for another key.
            openmls.NotAllowed: this device has no certificates.
        """
        renewed = leaf_owner(certified_credential(certificates), signature_key=self.client.signature_key)
        if renewed.client != self.owner.client:
            raise IdentifierError("the certificate is another client's")
        before = self.client.credential
        self.client.renew(certificates=certificates)
        self.owner = renewed
        if self.client.credential != before:
            self.state.fallback_uploaded = False  # it is no use any more, nor is the rest of the stock
        self.save()

    def not_renewed(self) -> list[str]:
        """The rooms in whose groups this device has other certificates than it has now."""
        return [
            room_id
            for room_id in self.state.rooms
            if self.in_group(room_id) and self._own_credential(room_id) != self.client.credential
        ]

    def _own_credential(self, room_id: str) -> bytes:
        group = self.group(room_id)
        (own,) = (leaf for leaf in group.members() if leaf.leaf_index == group.own_leaf_index)
        return own.credential

    # --- messages ---

    def encrypt(self, room_id: str, payload: bytes, *, txn_id: str) -> Outgoing:
        """Encrypt MIMI content for the room, once for each ``txn_id``; saved before it is returned.

        Raises:
            NotInGroup: this device is in no group, or on its way out of it.
            openmls.NotAllowed: proposals are pending, which have to be committed first.
        """
        message = self.state.outbox.get(txn_id)
        if message is None:
            if is_leaving(self.group(room_id)):
                raise NotInGroup(f"{self.owner.client_uri} is leaving the group of {room_id}")
            ciphertext = self._encrypt(room_id, payload)
            message = Outgoing(
                room_id=room_id, ciphertext=ciphertext, digest=digest(ciphertext), payload=payload
            )
            self.state.outbox[txn_id] = message
            self.save()
        return message

    def _encrypt(self, room_id: str, payload: bytes) -> bytes:
        group = self.group(room_id)
        if self.is_franked(room_id):
            return group.encrypt(payload, safe_aad=safe_aad(payload))
        return group.encrypt(payload)

    def prepare(self, room_id: str, content: MimiContent) -> MimiContent:
        """The content as it is sent: in a franked room it names its sender and its room."""
        if not self.is_franked(room_id):
            return content
        return with_claims(content, user_id=self.owner.user_id, room_id=room_id)

    def application_data(self, room_id: str, content: MimiContent) -> bytes:
        """The content (see ``prepare``) encoded as the messages of the room's group are.

        Raises:
            ValueError: it has no encoding.
        """
        encoded = content.encode()
        return framed(encoded, self.group(room_id).app_data()) if self.in_group(room_id) else encoded

    def unsend(self, txn_id: str) -> None:
        """The hub refused the message: encrypt it anew next time."""
        if self.state.outbox.pop(txn_id, None) is not None:
            self.save()

    # --- items ---

    def acknowledge(self, item: Item) -> None:
        """The first item waiting has been dealt with."""
        if self.state.inbox and self.state.inbox[0] is item:
            del self.state.inbox[0]
            self.save()

    def clear_inbox(self) -> None:
        """Acknowledge everything that waits, unseen."""
        if self.state.inbox:
            self.state.inbox.clear()
            self.save()

    def deliver(self, items: Iterable[Item]) -> None:
        """Put items into the inbox. The caller saves."""
        self.state.inbox.extend(items)
