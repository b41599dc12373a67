"""Every error that rag-assets raises on purpose.

    RagAssetsError
    ├── ConfigurationError        a setting, model spec or key is wrong: retrying cannot help
    │   ├── SignatureMismatchError   a model key is used with another spec than before
    │   ├── WeightsMismatchError     weights on disk are not the pinned ones
    │   └── CredentialsError         a server refuses the credentials that it was given
    ├── SourceError               the bucket or folder cannot be listed or read
    │   ├── DocumentGoneError        the object vanished between listing and reading
    │   └── DocumentUnreadableError  this one object is refused; others are not
    ├── LakeError                 a lake object is unreadable or the store refuses
    │   ├── StaleInputError          an input is missing or older than it must be
    │   │   └── SupersededInputError    an input has moved on since; its own run will follow
    │   └── CommitConflictError      somebody else committed first: read again and repeat
    ├── ParserStartError          no parser process starts: the installation is broken
    ├── EmbeddingError            a model returned something that is not a vector per text
    ├── VectorStoreError          Milvus refused, is unreachable or disagrees after a write
    ├── MoveRefusedError          a step in a model's life that is not allowed from where it is
    │   └── PromotionRefusedError    a collection is not fit to be live; lists every reason
    ├── AlertError                an alert was not delivered
    ├── SearchError               a query cannot be answered: no release, no model
    └── UnavailableError          a server is down or limits the rate: mixed into the kind of its
                                  error, so a run that ends with it is asked for again soon

Messages say what is wrong and what to do about it. Errors of one document are not exceptions
but outcomes (`core.documents.Outcome`): one bad document stops nothing.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rag_assets.core.models.gate import Finding


class RagAssetsError(Exception):
    """Base of all errors raised on purpose."""


class ConfigurationError(RagAssetsError):
    """A setting, model spec or key is wrong; a retry cannot help."""


class SignatureMismatchError(ConfigurationError):
    """A model key was used before with another spec."""


class WeightsMismatchError(ConfigurationError):
    """The weights on disk are not the ones that the spec pins."""


class CredentialsError(ConfigurationError):
    """A server refuses the credentials; others have to be set."""


class UnavailableError(RagAssetsError):
    """A server is down, or asks for patience; the work itself is not at fault."""


class SourceError(RagAssetsError):
    """The source cannot be listed or read."""


class SourceUnavailableError(SourceError, UnavailableError):
    """The bucket does not answer."""


class DocumentGoneError(SourceError):
    """The object is no longer there."""


class DocumentUnreadableError(SourceError):
    """The store refuses this one object."""


class LakeError(RagAssetsError):
    """A lake object cannot be read or written."""


class LakeUnavailableError(LakeError, UnavailableError):
    """The lake's store does not answer."""


class StaleInputError(LakeError):
    """An upstream asset has to be materialised first."""


class SupersededInputError(StaleInputError):
    """An input has moved on since the other one was made from it."""


class CommitConflictError(LakeError):
    """Another writer committed this partition since it was read."""


class ParserStartError(RagAssetsError):
    """The parser's process does not even start; that says nothing about any document."""


class EmbeddingError(RagAssetsError):
    """A model's answer is not one finite vector of the right dimension for each text."""


class EmbeddingUnavailableError(EmbeddingError, UnavailableError):
    """The embedding server does not answer, or has refused for too long."""


class VectorStoreError(RagAssetsError):
    """Milvus refused, cannot be reached, or holds other rows than were written."""


class VectorStoreUnavailableError(VectorStoreError, UnavailableError):
    """Milvus does not answer."""


class MoveRefusedError(RagAssetsError):
    """A model's role does not allow this step; the message says which one would."""


class PromotionRefusedError(MoveRefusedError):
    """The collection is not fit to be live; the message lists every reason.

    Attributes:
        findings: Of all rules, for those who show them.
    """

    def __init__(self, message: str, findings: "Sequence[Finding]" = ()) -> None:
        super().__init__(message)
        self.findings = findings


class AlertError(RagAssetsError):
    """A webhook refused an alert."""


class AlertUnavailableError(AlertError, UnavailableError):
    """A webhook does not answer, or not now."""


class SearchError(RagAssetsError):
    """A query cannot be answered."""
