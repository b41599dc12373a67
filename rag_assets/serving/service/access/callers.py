"""Who calls the service, and for whom they may search.

What belongs here: what callers may do. What does not: finding out who calls (`tokens.py`,
`issuer.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rag_assets.core.errors import RagAssetsError


class NotAuthenticatedError(RagAssetsError):
    """The request has no valid credentials."""


class NotAllowedError(RagAssetsError):
    """The caller may not do this."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls.

    Attributes:
        name: A name for the access log.
        principals: The user and groups that the caller is; None if anybody may be named.
        acts_for_others: Whether the caller may name any principals, as an application does that
            searches for its users.
        operator: Whether the caller may search candidates, and have any document explained.
    """

    name: str
    principals: tuple[str, ...] | None = None
    acts_for_others: bool = False
    operator: bool = False

    def asking(self, principals: Sequence[str] | None) -> Sequence[str] | None:
        """Return who asks: the principals of a request, or the caller's own.

        Raises:
            NotAllowedError: The request names principals that are not the caller's.
        """
        if self.principals is None or principals is None:
            return principals if self.principals is None else self.principals
        if not self.acts_for_others and (others := set(principals) - set(self.principals)):
            raise NotAllowedError(
                f"Your token does not let you search for {', '.join(sorted(others))}. Leave out"
                " `principals`, or use a token that acts for others."
            )
        return principals

    def require_operator(self, what: str) -> None:
        """Refuse anybody but operators.

        Raises:
            NotAllowedError: The caller is none.
        """
        if not self.operator:
            raise NotAllowedError(f"{what} is for operators only.")


ANYBODY = Caller("anybody", operator=True)
"""Who calls a service without authentication, which listens on loopback only."""
