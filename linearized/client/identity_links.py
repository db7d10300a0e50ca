"""Who is behind a pseudonym: checking identity links, and keeping the keys that open them
(draft-ietf-mimi-protocol-06, "Credential encryption").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import openmls
import orjson

from linearized.client.device import CIPHERSUITE, MlsDevice
from linearized.client.errors import UntrustedIdentity
from linearized.client.identity import LeafOwner, leaf_owner
from linearized.client.transport import JsonObject
from linearized.client.verify import server_keys
from linearized.exceptions import IdentifierError, InvalidInput
from linearized.mimi.content import SinglePart
from linearized.mimi.identity_links import (
    LINK_KEYS_TYPE,
    LINK_LABEL,
    AttestedIdentityLink,
    IdentityLinkError,
    LinkKeys,
    open_link,
)
from linearized.mimi.key_material import basic_credential
from linearized.mimi.media_types import read_message
from linearized.mimi.pseudonyms import PseudonymousCredential
from linearized.protocol.base64 import decode_base64
from linearized.protocol.identifiers import user_domain
from linearized.protocol.signing import verify_json

# "type" of a provider's statement that one of its clients has a signature key.
STATEMENT_TYPE = "dev.linearized.client_key"


@dataclass(frozen=True, slots=True)
class RealIdentity:
    """Who is behind a pseudonym, by the word of their provider and the signature of their real key."""

    user_id: str
    device_id: str
    signature_key: bytes


def domain_of(credential: PseudonymousCredential) -> str:
    """The provider at which a pseudonym is."""
    return user_domain(_owner(credential).user_id)


def check_link(
    credential: PseudonymousCredential, key: bytes, documents: Iterable[JsonObject]
) -> RealIdentity:
    """Open an identity link and check everything that is in it.

    Args:
        key: the link's.
        documents: what the pseudonym's provider says of its own signing keys (``server_keys`` each).

    Raises:
        UntrustedIdentity: it is somebody else's link, or not what it must be.
    """
    try:
        opened = open_link(key, credential)
        real = leaf_owner(opened.link.client_credential)
        domain = domain_of(credential)
        # "pseudonyms … qualified with the domain of the user's provider."
        if real.pseudonym is not None or user_domain(real.user_id) != domain:
            raise UntrustedIdentity("an identity link names nobody of the pseudonym's provider")
        signature_key = _attested_key(opened, real, domain, documents)
        # "a signature over the PseudonymousCredentialTBS signed with the client credential's
        # signature_public_key."
        openmls.verify_with_label(
            ciphersuite=CIPHERSUITE,
            public_key=signature_key,
            label=LINK_LABEL,
            content=credential.tbs().encode(),
            signature=opened.link.pseudonymous_credential_signature,
        )
    except (InvalidInput, openmls.MlsError) as error:
        raise UntrustedIdentity(str(error)) from error
    return RealIdentity(real.user_id, real.device_id, signature_key)


def _attested_key(
    opened: AttestedIdentityLink, real: LeafOwner, domain: str, documents: Iterable[JsonObject]
) -> bytes:
    """The signature key that the provider says the real client has."""
    try:
        said = orjson.loads(opened.statement)
    except orjson.JSONDecodeError as error:
        raise UntrustedIdentity("the provider's statement is not JSON") from error
    if not isinstance(said, dict) or said.get("type") != STATEMENT_TYPE:
        raise UntrustedIdentity("the provider's statement is about something else")
    if (said.get("user_id"), said.get("device_id")) != (real.user_id, real.device_id):
        raise UntrustedIdentity("the provider's statement is about another client")
    issued, key = said.get("issued_ts"), said.get("signature_key")
    if not isinstance(issued, int) or not isinstance(key, str):
        raise UntrustedIdentity("the provider's statement has no key or no time")
    verify_json(said, name=domain, keys=_keys_at(documents, domain, issued))
    return decode_base64(key)


def _keys_at(documents: Iterable[JsonObject], domain: str, when: int) -> Mapping[str, bytes]:
    """A server's keys, those included that it has given up since ``when``."""
    found: dict[str, bytes] = {}
    for document in documents:
        for (name, key_id), key in server_keys(document).items():
            if name == domain:
                found[key_id] = key
        old = document.get("old_verify_keys")
        if document.get("server_name") != domain or not isinstance(old, dict):
            continue
        for key_id, value in old.items():
            expired, text = (value.get("expired_ts"), value.get("key")) if isinstance(value, dict) else (0, 0)
            if isinstance(expired, int) and expired > when and isinstance(text, str):
                found.setdefault(key_id, decode_base64(text))
    return found


def pseudonyms_in(device: MlsDevice, room_id: str) -> dict[str, PseudonymousCredential]:
    """The credentials in a room's group by client pseudonym; none outside of it. Those that are not of the
    leaf they are in are left out.
    """
    if not device.in_group(room_id):
        return {}
    owners = device.members(room_id).values()
    return {owner.client_uri: owner.pseudonym for owner in owners if owner.pseudonym is not None}


def strangers_in(device: MlsDevice, room_id: str) -> list[str]:
    """What is wrong with the leaves that ``pseudonyms_in`` leaves out."""
    if not device.in_group(room_id):
        return []
    found = []
    for member in device.group(room_id).members():
        try:
            owner = leaf_owner(member.credential, signature_key=member.signature_key)
        except IdentifierError as error:
            found.append(f"leaf {member.leaf_index}: {error}")
            continue
        # "In MMRs, all leaves of the underlying group MUST contain PseudonymousCredentials."
        if owner.pseudonym is None:
            found.append(f"leaf {member.leaf_index}: {owner.client_uri} has no pseudonymous credential")
    return found


def check_sender(device: MlsDevice, room_id: str, processed: openmls.Processed) -> None:
    """Check that a message under a pseudonym was sent from the leaf that the pseudonym is of.

    Raises:
        UntrustedIdentity: it was not: the hub let somebody in with a credential that is not theirs.
    """
    owner = leaf_owner(processed.sender_credential)
    if owner.pseudonym is None:
        return
    if processed.sender_leaf not in device.members(room_id):
        raise UntrustedIdentity("the message is from a leaf with somebody else's pseudonym")


def note_arrival(device: MlsDevice, room_id: str, processed: openmls.Processed) -> None:
    """If somebody came by themself, whom nobody has told who is who, and this client is the first of those
    who could: remember to do it. The caller saves.
    """
    committer = processed.committer
    # An external commit adds the one who makes it; another may have taken our own leaf.
    arrivals = {member.credential for member in processed.added}
    if committer is None or committer.credential not in arrivals or processed.self_removed:
        return
    others = device.members(room_id).keys() - {committer.leaf_index}
    if device.group(room_id).own_leaf_index == min(others):
        device.owe_link_keys(room_id)


def take_link_keys(device: MlsDevice, room_id: str, payload: bytes) -> bool:
    """Keep the link keys that a message carries, if it is one that does; whether it is. The caller saves.

    A key that opens no link in the group is left: whoever sends false keys must not be able to hide anybody.
    """
    if device.owner.pseudonym is None:
        return False
    part = read_message(payload).part
    if not isinstance(part, SinglePart) or part.content_type != LINK_KEYS_TYPE:
        return False
    present = pseudonyms_in(device, room_id)
    for each in LinkKeys.decode(part.content).keys:
        if each.client_pseudonym in device.state.link_keys or each.client_pseudonym not in present:
            continue
        try:
            open_link(each.key, present[each.client_pseudonym])
        except IdentityLinkError:
            continue
        device.state.link_keys[each.client_pseudonym] = each.key
    return True


def _owner(credential: PseudonymousCredential) -> LeafOwner:
    return leaf_owner(basic_credential(credential.encode()))
