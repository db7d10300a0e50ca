"""What holds for every structure: round trips, and a value or ``MimiDecodeError`` for any bytes at all."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

import linearized.mimi
from linearized.exceptions import MimiDecodeError
from linearized.mimi import (
    binary_http,
    commit_parts,
    delivery_service,
    franking,
    group_info,
    handshake,
    leaf_changes,
    media_types,
    messages,
    metadata_policy,
    ohttp,
    pseudonyms,
    tls,
)
from linearized.mimi._codecs import Nested
from linearized.mimi.certificates import is_certified, read_certified
from linearized.mimi.content import (
    Disposition,
    Expiration,
    ExternalPart,
    MimiContent,
    MultiPart,
    NullPart,
    Part,
    PartSemantics,
    SinglePart,
)
from linearized.mimi.fanout_requests import FanoutAuthToken
from linearized.mimi.key_material import basic_identity, capabilities_of, is_of_another_protocol
from linearized.mimi.message_status import StatusReport
from linearized.mimi.mls_framing import (
    message_kind,
    walk_welcome,
    welcome_ciphersuite,
    welcome_message,
    welcome_struct,
)
from linearized.mimi.tls import Codec, Reader, Struct, UnknownValue
from tests.mimi.policy.strategies import RULED
from tests.mimi.support import APPLICATION, COMMIT, GROUP_INFO, PROPOSAL, WALKS, public_message, u16, vec
from tests.mimi.test_cbor import keys, values

for module in pkgutil.walk_packages(linearized.mimi.__path__, "linearized.mimi."):
    importlib.import_module(module.name)


def every_struct() -> list[type[Struct]]:
    """Every structure of the package, also those that derive from another one."""
    found: list[type[Struct]] = []
    waiting = [Struct]
    while waiting:
        # A dataclass with slots is made twice; the first attempt may still be among the subclasses.
        derived = [
            kind for kind in waiting.pop().__subclasses__() if kind.__module__.startswith("linearized.")
        ]
        waiting += derived
        found += [kind for kind in derived if getattr(sys.modules[kind.__module__], kind.__name__) is kind]
    return sorted(found, key=lambda kind: (kind.__module__, kind.__name__))


STRUCTS = every_struct()

WELCOMES = tuple(welcome_message(welcome) for welcome in WALKS[walk_welcome])
SAMPLES: dict[Callable[[Reader], object], tuple[bytes, ...]] = {
    **WALKS,
    messages.walk_application: (APPLICATION,),
    delivery_service.walk_welcome_message: WELCOMES,
    delivery_service.walk_group_info_message: (u16(1) + u16(4) + GROUP_INFO,),
    messages.walk_fanned_out: (APPLICATION, PROPOSAL, COMMIT, *WELCOMES),
}


def strategy(codec: Codec, seen: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values a codec can write, given the fields before it."""
    found: st.SearchStrategy[Any]
    match codec:
        case tls.Uint(width=width):
            found = st.integers(0, (1 << (8 * width)) - 1)
        case tls.Boolean():
            found = st.booleans()
        case tls.Fixed(size=size):
            found = st.binary(min_size=size, max_size=size)
        case tls.Opaque() | delivery_service.ShortOpaque():
            found = st.binary(max_size=80)
        case tls.Text(encoding=encoding, max_bytes=limit):
            found = st.text(st.characters(codec=encoding), max_size=min(limit // 4, 40))
        case tls.Enumeration(kind=kind, extensible=extensible, reserved=reserved):
            unknown = [n for n in range(256) if n not in reserved and n not in kind.__members__.values()]
            known = st.sampled_from(list(kind))
            found = known | st.sampled_from(unknown).map(UnknownValue) if extensible else known
        case tls.Raw(walk=walk):
            found = st.sampled_from(SAMPLES[walk])
        case Nested(kind=kind):
            assert issubclass(kind, Struct)
            found = struct(kind)
        case tls.Vector(element=element, min_items=least):
            found = st.lists(strategy(tls.as_codec(element), seen), min_size=least, max_size=3).map(tuple)
        case tls.Maybe(inner=inner):
            found = st.none() | strategy(tls.as_codec(inner), seen)
        case tls.When(field=field, values=chosen, inner=inner, of=of, absent=absent):
            found = strategy(tls.as_codec(inner), seen) if of(seen[field]) in chosen else st.just(absent)
        case _:
            raise AssertionError(codec)
    return found


@st.composite
def fields_of(draw: st.DrawFn, kind: type[Struct]) -> Any:
    seen: dict[str, Any] = {}
    for name, codec in tls.layout(kind):
        found = strategy(codec, seen)
        if name == "fanout_auth_tokens":  # one for each recipient
            found = st.tuples(*(struct(FanoutAuthToken) for _ in seen["recipient_ids"]))
        seen[name] = draw(found)
    try:
        return kind(**seen)
    except ValueError:  # a rule beyond the layout
        reject()


def struct(kind: type[Struct]) -> st.SearchStrategy[Any]:
    """Values of a structure."""
    if kind is handshake.GroupInfoOption:
        partial = struct(handshake.PartialGroupInfo)
        return st.builds(handshake.GroupInfoOption, full=st.just(GROUP_INFO)) | st.builds(
            handshake.GroupInfoOption, partial=partial
        )
    if kind in (pseudonyms.PseudonymousCredential, pseudonyms.PseudonymousCredentialTBS):
        return pseudonymous(kind)
    if kind in RULED:
        return RULED[kind]
    return fields_of(kind)


@st.composite
def pseudonymous(draw: st.DrawFn, kind: type[Struct]) -> Any:
    """A credential of pseudonyms, which are random UUIDs."""
    user, client = draw(st.uuids(version=4)), draw(st.uuids(version=4))
    owner = draw(st.sampled_from(["", f"{user}/"]))
    seen: dict[str, Any] = {name: draw(strategy(codec, {})) for name, codec in tls.layout(kind)}
    return kind(
        **seen
        | {
            "user_pseudonym": f"mimi://a.example/u/{user}",
            "client_pseudonym": f"mimi://a.example/d/{owner}{client}",
        }
    )


@pytest.mark.parametrize("kind", STRUCTS, ids=lambda kind: kind.__name__)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_every_structure_round_trips(kind: type[Struct], data: st.DataObject) -> None:
    value = data.draw(struct(kind))
    encoded = value.encode()
    assert kind.decode(encoded) == value
    assert kind.decode(encoded).encode() == encoded


def holds(decode: Callable[[bytes], Any], data: bytes) -> None:
    try:
        value = decode(data)
    except MimiDecodeError:
        return
    assert value.encode() == data


@pytest.mark.parametrize("kind", STRUCTS, ids=lambda kind: kind.__name__)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_a_damaged_structure_is_a_value_or_refused(kind: type[Struct], data: st.DataObject) -> None:
    encoded = data.draw(struct(kind)).encode()
    at = data.draw(st.integers(0, len(encoded)))
    cut = data.draw(st.integers(0, 3))
    holds(kind.decode, encoded[:at] + data.draw(st.binary(max_size=3)) + encoded[at + cut :])


@pytest.mark.parametrize("kind", STRUCTS, ids=lambda kind: kind.__name__)
@settings(max_examples=20, deadline=None)
@given(data=st.binary(max_size=64))
def test_any_bytes_are_a_structure_or_refused(kind: type[Struct], data: bytes) -> None:
    holds(kind.decode, data)


@given(st.binary(max_size=64) | st.binary(max_size=16).map(lambda tail: bytes(8) + APPLICATION + tail))
def test_any_bytes_are_a_stream_of_messages_or_refused(data: bytes) -> None:
    try:
        found = messages.decode_fanout_stream(data)
    except MimiDecodeError:
        return
    assert b"".join(message.encode() for message in found) == data


READERS: tuple[Callable[[Any], object], ...] = (
    message_kind,
    messages.message_role,
    welcome_struct,
    welcome_message,
    welcome_ciphersuite,
    basic_identity,
    capabilities_of,
    is_of_another_protocol,
    read_certified,
    is_certified,
    commit_parts.commit_parts,
    commit_parts.proposed_key_package,
    commit_parts.proposed_app_data,
    commit_parts.leaf_credential,
    commit_parts.leaf_signature_key,
    leaf_changes.proposed_change,
    leaf_changes.committed_changes,
    leaf_changes.leaf_credentials,
    group_info.app_data_of,
    group_info.cipher_suite_of,
    franking.tag_in,
    franking.agent_uri,
    media_types.read_message,
    binary_http.read_varint,
    *SAMPLES,
)
"""Every function that reads bytes, or a ``Reader``, and is no method of a structure."""

DECODERS = (
    *STRUCTS,
    MimiContent,
    StatusReport,
    binary_http.BinaryRequest,
    binary_http.BinaryResponse,
    ohttp.KeyConfig,
    metadata_policy.MetadataPolicy,
)
"""Every class with a ``decode``. The last six have properties of their own, here and beside their tests."""

NO_READERS = {
    "encode_vector", "franking_components", "basic_credential", "padded_request", "padded_response",
    "framed", "check_framing",
    # Read here under other names or in ``test_ohttp``: each has a test of its own for any bytes.
    "decode_fanout_stream", "decode_key_configs",
}  # fmt: skip
"""Functions of bytes that write, or are tested elsewhere."""


def public_members(kind: Callable[[object], bool]) -> dict[str, Any]:
    """What the modules of the package define under names without an underscore."""
    return {
        f"{name}.{item}": value
        for name, module in sys.modules.items()
        if name.startswith("linearized.mimi.") and not name.rpartition(".")[2].startswith("_")
        for item, value in vars(module).items()
        if not item.startswith("_") and kind(value) and value.__module__ == name
    }


def takes_bytes(function: object) -> bool:
    """Whether all that a function needs is bytes, or a ``Reader``."""
    if not inspect.isfunction(function):
        return False
    needed = [item for item in inspect.signature(function).parameters.values() if item.default is item.empty]
    return len(needed) == 1 and needed[0].annotation in {"bytes", "Reader"}


def test_no_reader_and_no_decoder_of_the_package_is_left_out() -> None:
    functions = public_members(takes_bytes)
    assert len(functions) > 20
    assert {name for name, value in functions.items() if value not in READERS} == {
        name for name in functions if name.rpartition(".")[2] in NO_READERS
    }
    classes = public_members(lambda value: inspect.isclass(value) and hasattr(value, "decode"))
    assert len(classes) > 50
    assert set(classes.values()) - {Struct} == set(DECODERS)


def reads_or_refuses(read: Callable[[Any], object], data: bytes) -> None:
    reader = next(iter(inspect.signature(read).parameters.values())).annotation == "Reader"
    with contextlib.suppress(MimiDecodeError):
        read(Reader(data) if reader else data)


@pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__)
@settings(max_examples=20, deadline=None)
@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_refused_by_every_other_reader(
    read: Callable[[Any], object], data: bytes
) -> None:
    reads_or_refuses(read, data)


@pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_damaged_messages_are_read_or_refused_by_every_other_reader(
    read: Callable[[Any], object], data: st.DataObject
) -> None:
    whole = data.draw(st.sampled_from([item for samples in SAMPLES.values() for item in samples]))
    at, cut = data.draw(st.integers(0, len(whole))), data.draw(st.integers(0, 3))
    reads_or_refuses(read, whole[:at] + data.draw(st.binary(max_size=3)) + whole[at + cut :])


texts = st.text(max_size=8)
octets = st.binary(max_size=8)
dispositions = st.sampled_from(Disposition) | st.integers(9, 255).map(UnknownValue)
flat_parts: st.SearchStrategy[Part] = st.one_of(
    st.builds(NullPart, disposition=dispositions, language=texts),
    st.builds(SinglePart, disposition=dispositions, language=texts, content_type=texts, content=octets),
    st.builds(
        ExternalPart,
        disposition=dispositions,
        language=texts,
        content_type=texts,
        url=texts,
        expires=st.integers(0, 2**32 - 1),
        size=st.integers(0, 2**64 - 1),
        enc_alg=st.integers(0, 2**16 - 1),
        key=octets,
        nonce=octets,
        aad=octets,
        hash_alg=st.integers(0, 255),
        content_hash=octets,
        description=texts,
        filename=texts,
    ),
)


def multiparts(inner: st.SearchStrategy[Part]) -> st.SearchStrategy[Part]:
    return inner | st.builds(
        MultiPart,
        disposition=dispositions,
        language=texts,
        semantics=st.sampled_from(PartSemantics),
        parts=st.lists(inner, min_size=2, max_size=3).map(tuple),
    )


message_ids = st.none() | st.binary(min_size=31, max_size=31).map(b"\x01".__add__)
contents = st.builds(
    MimiContent,
    salt=st.binary(min_size=16, max_size=16),
    replaces=message_ids,
    topic_id=octets,
    expires=st.none() | st.builds(Expiration, relative=st.booleans(), time=st.integers(0, 2**32 - 1)),
    in_reply_to=message_ids,
    extensions=st.fixed_dictionaries({}, optional={1: texts, 2: texts, 3: st.tuples(keys), "own": keys}),
    part=multiparts(multiparts(multiparts(flat_parts))),
)


@settings(deadline=None)
@given(contents)
def test_any_message_content_round_trips(content: MimiContent) -> None:
    assert MimiContent.decode(content.encode()) == content


@settings(deadline=None)
@given(contents, st.data())
def test_damaged_message_content_is_a_value_or_refused(content: MimiContent, data: st.DataObject) -> None:
    encoded = content.encode()
    at = data.draw(st.integers(0, len(encoded)))
    holds(MimiContent.decode, encoded[:at] + data.draw(st.binary(max_size=3)) + encoded[at + 1 :])


@given(st.binary(max_size=64))
def test_any_bytes_are_message_content_or_refused(data: bytes) -> None:
    holds(MimiContent.decode, data)


@settings(deadline=None)
@given(values)
def test_any_extension_value_is_kept_or_refused(value: Any) -> None:
    content = MimiContent(salt=bytes(16), part=NullPart(), extensions={5: value})
    try:
        encoded = content.encode()
    except ValueError:
        return  # nested deeper than allowed
    assert MimiContent.decode(encoded) == content


def test_every_structure_with_a_proposal_takes_one_from_outside_the_group() -> None:
    proposal = public_message(2, u16(3) + bytes(4), "external")
    assert handshake.HandshakeBundle.decode(proposal + vec(proposal)).more_proposals == (proposal,)
