"""Who speaks for whom: which server may submit what for which users."""

from __future__ import annotations

from dataclasses import dataclass

from linearized.exceptions import IdentifierError
from linearized.protocol.identifiers import user_domain
from linearized.room.submissions import Handshake, LocalEvent, Reason, Rejected


@dataclass(frozen=True, slots=True, kw_only=True)
class Speakers:
    """Those of one hub.

    Attributes:
        hub: its name.
        vouched: domains without a Linearized Matrix server of their own whose users it may vouch for (its
            bridges'), in addition to MIMI providers, which are authenticated per submission.
    """

    hub: str
    vouched: frozenset[str]

    def check_local(self, submission: LocalEvent) -> None:
        """An event of our own making is of one of our users, or of one we may vouch for.

        Raises:
            Rejected: ``FORBIDDEN``; ``MALFORMED`` if the sender is no user.
        """
        domain, provenance = _domain_of(submission.sender), submission.provenance
        # A room's past may hold users of any homeserver; for new events we speak for our bridges' alone.
        imported = provenance is not None and provenance.get("imported") is True
        vouched = imported or (provenance is not None and domain in self.vouched)
        if domain != self.hub and not vouched:
            raise Rejected(Reason.FORBIDDEN, f"This hub does not speak for users of {domain}")

    def check_provider(self, user_id: str, provider: str) -> None:
        """The provider that submits must be the one the user belongs to; we speak for our bridges' domains.

        Raises:
            Rejected: as ``check_local``.
        """
        domain = _domain_of(user_id)
        ours = provider == self.hub and domain in self.vouched
        if domain != provider and not ours:
            raise Rejected(Reason.FORBIDDEN, f"{provider} does not speak for users of {domain}")

    def check_submitter(self, submission: Handshake, user_id: str) -> None:
        """A handshake is submitted by the provider, and in the session, of the user who signed it.

        Raises:
            Rejected: as ``check_local``.
        """
        self.check_provider(user_id, submission.provider)
        if submission.user_id not in {None, user_id}:
            raise Rejected(
                Reason.FORBIDDEN, "The handshake was made by another user than the one who submits it"
            )


def _domain_of(user_id: str) -> str:
    try:
        return user_domain(user_id)
    except IdentifierError as error:
        raise Rejected(Reason.MALFORMED, str(error)) from error
