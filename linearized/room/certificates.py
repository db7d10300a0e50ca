"""Whether the certificates of leaves hold: what a hub asks before it lets one into a group.

"The Authentication Service" of RFC 9420 (section 5.3.1) is, for clients with basic credentials, the provider
that hands out their key packages (``tie.check_introductions``). A client with certificates has that as well,
and an authority that the hub's operator trusts for its provider's users.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from cryptography.x509 import Certificate

from linearized.exceptions import CertificateError
from linearized.mimi.certificates import is_certified, read_certified, verify_certified
from linearized.mls import ProposalInfo, StagedCommit
from linearized.protocol.identifiers import user_domain
from linearized.room.credentials import client_of
from linearized.room.submissions import Reason, Rejected
from linearized.room.tie import added_credential, proposed_credentials

Authorities = Callable[[str], Sequence[Certificate]]
"""The authorities trusted for the users of a domain: a provider vouches for its own users only."""


def nobody_trusted(_domain: str) -> Sequence[Certificate]:
    """``Authorities`` of who trusts none."""
    return ()


def verify_credential(credential: bytes, authorities: Authorities, *, now: int) -> None:
    """Check the certificates in a credential that ``client_of`` has read; a basic one has none.

    Args:
        credential: TLS-encoded.
        now: milliseconds since the Unix epoch.

    Raises:
        CertificateError: they do not hold.
    """
    if is_certified(credential):
        domain = user_domain(client_of(credential).user_id)
        roots = authorities(domain)
        if not roots:
            raise CertificateError(f"no authority is trusted for certificates of {domain}")
        verify_certified(read_certified(credential), roots, now=now // 1000)


def check_certificates(staged: StagedCommit, authorities: Authorities, *, now: int) -> None:
    """Hold every leaf that a commit brings, changes or is made by to its certificates, at the time of the
    commit: a client whose certificate has expired stays in the group, but commits nothing more.

    Raises:
        Rejected: ``INVALID_COMMIT``, or ``INVALID_PROPOSAL`` naming what is in the commit by reference.
    """
    # In this order, so that what stands is each leaf as it is after the commit.
    leaves = {leaf.leaf_index: leaf for leaf in (staged.committer, *staged.updated, *staged.added)}
    references = proposed_credentials(staged)
    references |= {
        each.updated.credential: each.reference for each in staged.proposals if each.updated is not None
    }
    for leaf in leaves.values():
        _check(leaf.credential, references.get(leaf.credential), authorities, now)


def check_offered_certificates(
    proposals: Iterable[ProposalInfo], authorities: Authorities, *, now: int
) -> None:
    """The same for the leaves that standalone proposals bring.

    Raises:
        Rejected: ``INVALID_PROPOSAL`` naming the proposal.
    """
    for proposal in proposals:
        if proposal.updated is not None:
            _check(proposal.updated.credential, proposal.reference, authorities, now)
        elif proposal.kind == "add":
            _check(added_credential(proposal), proposal.reference, authorities, now)


def _check(credential: bytes, reference: bytes | None, authorities: Authorities, now: int) -> None:
    try:
        verify_credential(credential, authorities, now=now)
    except CertificateError as error:
        if reference is None:
            raise Rejected(Reason.INVALID_COMMIT, str(error)) from error
        raise Rejected(Reason.INVALID_PROPOSAL, str(error), invalid_proposals=(reference,)) from error
