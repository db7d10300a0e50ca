"""Where MLS structures end (RFC 9420), without interpreting them.

MIMI embeds ``MLSMessage``, ``Welcome``, ``GroupInfo``, ``KeyPackage`` and others without a length in front,
so the only way to find what follows is to walk them. Each ``walk_…`` passes exactly one structure in a
``Reader`` or raises ``MimiDecodeError``. Nothing is verified here; that is the MLS implementation's work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias, TypeVar

from linearized.exceptions import MimiDecodeError
from linearized.mimi.tls import Reader

Walk: TypeAlias = Callable[[Reader], object]
T = TypeVar("T")

MLS10 = 1  # ProtocolVersion mls10
MESSAGE_HEADER = 4  # octets of ProtocolVersion and WireFormat in front of the structure an MLSMessage holds

WIRE_FORMATS: Mapping[int, str] = {1: "public", 2: "private", 3: "welcome", 4: "group_info", 5: "key_package"}
CONTENT_TYPES: Mapping[int, str] = {1: "application", 2: "proposal", 3: "commit"}
SENDER_TYPES: Mapping[int, str] = {
    1: "member",
    2: "external",
    3: "new_member_proposal",
    4: "new_member_commit",
}


class MessageKind(NamedTuple):
    """What an MLSMessage is: of ``WIRE_FORMATS``, and of ``CONTENT_TYPES`` if public or private."""

    wire_format: str
    content_type: str | None


def message_kind(message: bytes) -> MessageKind:
    """Read the front of an MLSMessage, as far as its content type; what follows is not looked at.

    Raises:
        MimiDecodeError: the message has another version, or an unknown wire format, sender or content type.
    """
    reader = Reader(message)
    wire_format = _wire_format(reader)
    if wire_format == "public":
        return MessageKind(wire_format, _content_front(reader)[1])
    if wire_format == "private":
        return MessageKind(wire_format, _private_front(reader))
    return MessageKind(wire_format, None)


def welcome_struct(mls_message: bytes) -> bytes:
    """The bare Welcome inside an MLSMessage, as a HandshakeBundle carries it."""
    reader = Reader(mls_message)
    if (kind := _wire_format(reader)) != "welcome":
        raise MimiDecodeError(f"a Welcome was expected, not {kind}")
    walk_welcome(reader)
    reader.finish()
    return mls_message[MESSAGE_HEADER:]


def welcome_ciphersuite(message: bytes) -> int:
    """The cipher suite of an MLSMessage with a Welcome (RFC 9420, 12.4.3.1).

    Raises:
        MimiDecodeError: it is too short.
    """
    reader = Reader(message)
    reader.skip(MESSAGE_HEADER)
    return reader.uint(2)


def welcome_message(welcome: bytes) -> bytes:
    """The MLSMessage around a bare Welcome, as MLS clients and FanoutMessages carry it."""
    reader = Reader(welcome)
    walk_welcome(reader)
    reader.finish()
    return bytes([0, MLS10, 0, 3]) + welcome


def walk_mls_message(reader: Reader) -> MessageKind:
    """Pass one MLSMessage, and say what it is."""
    wire_format = _wire_format(reader)
    return MessageKind(wire_format, _MESSAGES[wire_format](reader))


def walk_public_proposal(reader: Reader) -> None:
    """Pass one MLSMessage that is a PublicMessage with a proposal."""
    _walk_public(reader, ("proposal",))


def walk_public_handshake(reader: Reader) -> None:
    """Pass one MLSMessage that is a PublicMessage with a proposal or a commit."""
    _walk_public(reader, ("proposal", "commit"))


def walk_public_commit(reader: Reader) -> None:
    """Pass one MLSMessage that is a PublicMessage with a commit."""
    _walk_public(reader, ("commit",))


def walk_welcome(reader: Reader) -> None:
    """Pass one Welcome: cipher suite, secrets, encrypted GroupInfo."""
    reader.skip(2)
    reader.sub().skip_elements(3)
    reader.skip_vectors(1)


def walk_group_info(reader: Reader) -> None:
    """Pass one GroupInfo."""
    _version(reader)
    reader.skip(2)
    reader.skip_vectors(1)  # group_id
    reader.skip(8)
    reader.skip_vectors(2)  # tree_hash, confirmed_transcript_hash
    walk_extensions(reader)
    walk_extensions(reader)
    reader.skip_vectors(1)  # confirmation_tag
    reader.skip(4)
    reader.skip_vectors(1)  # signature


def walk_key_package(reader: Reader) -> None:
    """Pass one KeyPackage."""
    _version(reader)
    reader.skip(2)
    reader.skip_vectors(1)  # init_key
    walk_leaf_node(reader)
    walk_extensions(reader)
    reader.skip_vectors(1)  # signature


def walk_leaf_node(reader: Reader) -> None:
    """Pass one LeafNode."""
    reader.skip_vectors(2)  # encryption_key, signature_key
    walk_credential(reader)
    walk_capabilities(reader)
    _choose(_LEAF_NODE_SOURCES, reader.uint(1), "leaf node source")(reader)
    walk_extensions(reader)
    reader.skip_vectors(1)  # signature


def walk_credential(reader: Reader) -> None:
    """Pass one Credential, basic or X.509; others cannot be passed without knowing their form."""
    _choose(_CREDENTIALS, reader.uint(2), "credential type")(reader)


def walk_capabilities(reader: Reader) -> None:
    """Pass one Capabilities: five lists of 16-bit values."""
    for _ in range(5):
        if reader.sub().remaining % 2:
            raise MimiDecodeError("a list of capabilities ends within a value")


def walk_extensions(reader: Reader) -> None:
    """Pass one ``Extension extensions<V>``."""
    _each(reader, _extension)


def walk_ratchet_tree(reader: Reader) -> None:
    """Pass one ``optional<Node> ratchet_tree<V>``. Its length says where it ends; its nodes, of which a large
    group has thousands, are for the MLS implementation to look at.
    """
    reader.skip_vectors(1)


def walk_proposal(reader: Reader) -> None:
    """Pass one Proposal of RFC 9420 or draft-ietf-mls-extensions."""
    _choose(_PROPOSALS, reader.uint(2), "proposal type")(reader)


def _walk_public(reader: Reader, content_types: tuple[str, ...]) -> None:
    kind = walk_mls_message(reader)
    if kind.wire_format != "public" or kind.content_type not in content_types:
        raise MimiDecodeError(f"a public {' or '.join(content_types)} was expected, not {kind}")


def _wire_format(reader: Reader) -> str:
    _version(reader)
    return _choose(WIRE_FORMATS, reader.uint(2), "wire format")


def _version(reader: Reader) -> None:
    if (version := reader.uint(2)) != MLS10:
        raise MimiDecodeError(f"MLS version {version} is not known")


def _choose(table: Mapping[int, T], number: int, what: str) -> T:
    if number not in table:
        raise MimiDecodeError(f"{number} is not a known {what}, so what follows cannot be read")
    return table[number]


def _each(reader: Reader, walk: Walk) -> None:
    inner = reader.sub()
    while inner.remaining:
        walk(inner)


def _optional(reader: Reader, walk: Walk) -> None:
    presence = reader.uint(1)
    if presence > 1:
        raise MimiDecodeError(f"{presence} is not a presence octet")
    if presence:
        walk(reader)


def _extension(reader: Reader) -> None:
    reader.skip(2)
    reader.skip_vectors(1)


def _content_front(reader: Reader) -> tuple[str, str]:
    reader.skip_vectors(1)  # group_id
    reader.skip(8)  # epoch
    sender = _choose(SENDER_TYPES, reader.uint(1), "sender type")
    if sender in {"member", "external"}:
        reader.skip(4)
    reader.skip_vectors(1)  # authenticated_data
    return sender, _choose(CONTENT_TYPES, reader.uint(1), "content type")


def _public_message(reader: Reader) -> str:
    sender, content_type = _content_front(reader)
    _CONTENTS[content_type](reader)
    reader.skip_vectors(2 if content_type == "commit" else 1)  # signature, and a commit's confirmation_tag
    if sender == "member":
        reader.skip_vectors(1)  # membership_tag
    return content_type


def _private_front(reader: Reader) -> str:
    reader.skip_vectors(1)  # group_id
    reader.skip(8)  # epoch
    return _choose(CONTENT_TYPES, reader.uint(1), "content type")


def _private_message(reader: Reader) -> str:
    content_type = _private_front(reader)
    reader.skip_vectors(3)  # authenticated_data, encrypted_sender_data, ciphertext
    return content_type


def _commit(reader: Reader) -> None:
    _each(reader, _proposal_or_ref)
    _optional(reader, _update_path)


def _proposal_or_ref(reader: Reader) -> None:
    _choose(_PROPOSAL_OR_REF, reader.uint(1), "form of a proposal in a commit")(reader)


def _update_path(reader: Reader) -> None:
    walk_leaf_node(reader)
    _each(reader, _update_path_node)


def _update_path_node(reader: Reader) -> None:
    reader.skip_vectors(1)  # encryption_key
    reader.sub().skip_elements(2)


def _pre_shared_key(reader: Reader) -> None:
    _choose(_PSKS, reader.uint(1), "PSK type")(reader)
    reader.skip_vectors(1)  # psk_nonce


def _resumption_psk(reader: Reader) -> None:
    reader.skip(1)  # usage
    reader.skip_vectors(1)  # psk_group_id
    reader.skip(8)  # psk_epoch


def _re_init(reader: Reader) -> None:
    reader.skip_vectors(1)  # group_id
    reader.skip(4)  # version, cipher_suite
    walk_extensions(reader)


def _app_data_update(reader: Reader) -> None:
    reader.skip(2)  # component_id
    _choose(_APP_DATA_OPERATIONS, reader.uint(1), "AppDataUpdate operation")(reader)


def _nothing(reader: Reader) -> None:
    del reader  # an empty structure ends where it begins


def _one_vector(reader: Reader) -> None:
    reader.skip_vectors(1)


_MESSAGES: Mapping[str, Callable[[Reader], str | None]] = {
    "public": _public_message,
    "private": _private_message,
    "welcome": walk_welcome,
    "group_info": walk_group_info,
    "key_package": walk_key_package,
}
_CONTENTS: Mapping[str, Walk] = {
    "application": _one_vector,
    "proposal": walk_proposal,
    "commit": _commit,
}
_PROPOSALS: Mapping[int, Walk] = {
    0x0001: walk_key_package,  # add
    0x0002: walk_leaf_node,  # update
    0x0003: lambda reader: reader.skip(4),  # remove
    0x0004: _pre_shared_key,
    0x0005: _re_init,
    0x0006: _one_vector,  # external_init
    0x0007: walk_extensions,  # group_context_extensions
    0x0008: _app_data_update,
    0x0009: _extension,  # app_ephemeral: component_id and data have an extension's shape
    0x000A: _nothing,  # self_remove
}
_PROPOSAL_OR_REF: Mapping[int, Walk] = {1: walk_proposal, 2: _one_vector}
_PSKS: Mapping[int, Walk] = {
    1: _one_vector,  # external
    2: _resumption_psk,
    3: _extension,  # application (draft-ietf-mls-extensions): component_id, psk_id
}
_APP_DATA_OPERATIONS: Mapping[int, Walk] = {1: _one_vector, 2: _nothing}  # update, remove
_LEAF_NODE_SOURCES: Mapping[int, Walk] = {
    1: lambda reader: reader.skip(16),  # key_package: Lifetime
    2: _nothing,  # update
    3: _one_vector,  # commit: parent_hash
}
_CREDENTIALS: Mapping[int, Walk] = {
    1: _one_vector,  # basic
    2: lambda reader: _each(reader, _one_vector),  # x509
}
