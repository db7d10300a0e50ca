"""Values of the structures whose rules chance alone would hardly ever meet."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from linearized.mimi.policy.base import BaseRoomPolicy
from linearized.mimi.policy.capabilities import Capability
from linearized.mimi.policy.common import Optionality
from linearized.mimi.policy.preauth import Claim, ClaimId, PreAuthData, PreAuthRoleEntry
from linearized.mimi.policy.retention import MessageExpiration
from linearized.mimi.policy.roles import BANNED_NAME, Role, RoleData, SingleSourceRoleChangeTargets
from linearized.mimi.pseudonyms import PseudonymousCredential, PseudonymousCredentialTBS
from linearized.mimi.tls import Struct, UnknownValue

numbers = st.integers(0, 2**32 - 1)
names = st.text(min_size=1, max_size=8).filter(lambda name: name != BANNED_NAME)
capabilities = st.sampled_from(
    [capability for capability in Capability if capability is not Capability.OPEN_JOIN]
) | st.just(UnknownValue(0xF000))


@st.composite
def limits(draw: st.DrawFn) -> tuple[int, int | None]:
    least, most = sorted((draw(numbers), draw(numbers)))
    return least, draw(st.sampled_from([None, most]))


@st.composite
def roles(draw: st.DrawFn, index: int, known: list[int]) -> Role:
    participants, active = draw(limits()), draw(limits())
    sources = draw(st.lists(st.sampled_from(known), unique=True, max_size=3))
    targets = st.lists(st.sampled_from(known), max_size=3).map(tuple)
    return Role(
        role_index=index,
        role_name=draw(names),
        role_description=draw(st.text(max_size=8)),
        role_capabilities=tuple(draw(st.lists(capabilities, max_size=3))),
        minimum_participants_constraint=participants[0],
        maximum_participants_constraint=participants[1],
        minimum_active_participants_constraint=active[0],
        maximum_active_participants_constraint=active[1],
        authorized_role_changes=tuple(
            SingleSourceRoleChangeTargets(from_role_index=source, target_role_indexes=draw(targets))
            for source in sources
        ),
    )


@st.composite
def role_lists(draw: st.DrawFn) -> RoleData:
    known = draw(st.lists(numbers, unique=True, max_size=3))
    return RoleData(roles=tuple(draw(roles(index, [*known, 0])) for index in known))


single_roles = st.integers(1, 2**32 - 1).flatmap(lambda index: roles(index, [index, 0]))
claims = st.builds(
    Claim,
    claim_id=st.builds(ClaimId, credential_type=st.integers(0, 2**16 - 1), id=st.binary(max_size=8)),
    claim_value=st.binary(max_size=8),
)
entries = st.builds(
    PreAuthRoleEntry,
    claimset=st.lists(claims, min_size=1, max_size=3).map(tuple),
    target_role=single_roles,
)


@st.composite
def base_policies(draw: st.DrawFn) -> BaseRoomPolicy:
    parents = draw(st.sampled_from([(), ("mimi://a.example/r/parent",)]))
    return BaseRoomPolicy(
        fixed_membership=draw(st.booleans()),
        parent_dependant=bool(parents),
        parent_room=parents,
        max_clients=draw(st.none() | numbers),
        max_users=draw(st.none() | numbers),
        policy_component_ids=tuple(draw(st.lists(st.integers(0, 2**16 - 1), max_size=3))),
    )


@st.composite
def expirations(draw: st.DrawFn) -> MessageExpiration:
    kind = draw(st.sampled_from(Optionality))
    if kind is Optionality.FORBIDDEN:
        return MessageExpiration(expiring_messages=kind)
    shortest, default, longest = sorted(draw(st.tuples(numbers, numbers, numbers)))
    return MessageExpiration(
        expiring_messages=kind,
        min_expiration_duration=shortest,
        max_expiration_duration=longest,
        default_expiration_duration=draw(st.sampled_from([None, default])),
    )


uuids = st.uuids(version=4)


def _just(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: st.just(value) for name, value in fields.items()}


@st.composite
def pseudonyms(draw: st.DrawFn) -> dict[str, Any]:
    user = draw(uuids)
    return {
        "client_pseudonym": f"mimi://a.example/d/{draw(st.sampled_from(['', f'{user}/']))}{draw(uuids)}",
        "user_pseudonym": f"mimi://a.example/u/{user}",
        "signature_public_key": draw(st.binary(max_size=8)),
    }


RULED: dict[type[Struct], st.SearchStrategy[Any]] = {
    Role: single_roles,
    RoleData: role_lists(),
    PreAuthRoleEntry: entries,
    PreAuthData: st.builds(PreAuthData, preauthorized_entries=st.lists(entries, max_size=2).map(tuple)),
    BaseRoomPolicy: base_policies(),
    MessageExpiration: expirations(),
    PseudonymousCredentialTBS: pseudonyms().map(lambda fields: PseudonymousCredentialTBS(**fields)),
    PseudonymousCredential: pseudonyms().flatmap(
        lambda fields: st.builds(
            PseudonymousCredential, identity_link_ciphertext=st.binary(max_size=8), **_just(fields)
        )
    ),
}
