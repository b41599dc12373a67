"""The errors that rag-assets raises deliberately.

    RagAssetsError
    ├── ConfigurationError        a setting, model spec or key is wrong; retrying cannot help
    │   ├── SignatureMismatchError   a model key is reused with a different spec
    │   ├── WeightsMismatchError     the weights on disk are not the pinned ones
    │   ├── MissingExtraError        a library is needed that only an extra installs
    │   └── CredentialsError         a server rejects the credentials
    ├── SourceError               the bucket or folder cannot be listed or read
    │   ├── DocumentGoneError        the object vanished between listing and reading
    │   └── DocumentUnreadableError  this object cannot be read now; others may be
    │       └── DocumentTooLargeError   it is larger than the limit, which only reading it showed
    ├── LakeError                 a lake object cannot be read or written
    │   ├── LakeCorruptionError      an object's bytes are damaged; a partition is rebuilt
    │   ├── ReshardedError           the lake has more shards by now than this process knows of
    │   ├── StaleInputError          an input is missing or out of date
    │   │   └── SupersededInputError    an input has changed since; a run for it will follow
    │   └── CommitConflictError      another writer committed first: read again and retry
    │       └── OvertakenError          after part of the work was done
    ├── ParserStartError          the parser process does not start: the installation is broken
    ├── EmbeddingError            a model did not return one valid vector per text
    ├── RerankError               a reranker did not return one finite score per text
    ├── VectorStoreError          Milvus failed, is unreachable, or does not hold what was written
    ├── MoveRefusedError          a lifecycle step that the model's current role does not allow
    │   └── PromotionRefusedError    a collection is not fit to go live; lists every reason
    ├── ErasureError             a document is not gone from the source, or cannot be erased now
    ├── AlertError                an alert was not delivered
    ├── SearchError               a query cannot be answered as it is: its question, filter, limits
    │   ├── NotLiveError             nothing is live that could answer it
    │   │   └── NotLiveYetError      nor has anything been
    │   └── SearchUnavailableError   the search service does not answer, or is busy or failing
    └── UnavailableError          a server is down or rate-limited. Mixed into the specific error,
                                  so that a run that fails with it is retried soon

Messages state what is wrong and what to do about it. A problem with a single document is not an
exception but an outcome (`core.documents.document.Outcome`): one bad document stops nothing.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rag_assets.core.models.gate import Finding


class RagAssetsError(Exception):
    """Base class of all errors that rag-assets raises deliberately."""


class ConfigurationError(RagAssetsError):
    """A setting, model spec or key is wrong; a retry cannot help."""


class SignatureMismatchError(ConfigurationError):
    """A model key was used before with a different spec."""


class WeightsMismatchError(ConfigurationError):
    """The weights on disk are not the ones the spec pins."""


class MissingExtraError(ConfigurationError, ImportError):
    """A library is not installed that an extra of this package brings."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what}: pip install 'rag-assets[{extra}]'.")


class CredentialsError(ConfigurationError):
    """A server rejects the credentials; they have to be corrected."""


class UnavailableError(RagAssetsError):
    """A server is down or rate-limited; the work itself is not at fault."""


class SourceError(RagAssetsError):
    """The source cannot be listed or read."""


class SourceUnavailableError(SourceError, UnavailableError):
    """The bucket does not respond."""


class DocumentGoneError(SourceError):
    """The object no longer exists."""


class DocumentUnreadableError(SourceError):
    """This object cannot be read now, which says nothing about others."""


class DocumentTooLargeError(DocumentUnreadableError):
    """The content is larger than the limit, which only reading it showed."""


class LakeError(RagAssetsError):
    """A lake object cannot be read or written."""


class LakeCorruptionError(LakeError):
    """An object of the lake is damaged: truncated, empty or garbage, also when read twice.

    Attributes:
        path: The object's key in the lake.
    """

    def __init__(self, path: str, why: str) -> None:
        self.path = path
        super().__init__(f"{path} in the lake is corrupt: {why}.")


class LakeUnavailableError(LakeError, UnavailableError):
    """The lake's store does not respond."""


class ReshardedError(LakeError):
    """The lake's shards have been doubled since this process began; a new one can go on."""


class StaleInputError(LakeError):
    """An upstream asset has to be materialised first."""


class SupersededInputError(StaleInputError):
    """An input has changed since the other input was derived from it."""


class CommitConflictError(LakeError):
    """Another writer has committed this partition since it was read."""


class OvertakenError(CommitConflictError):
    """The same, after part of the work was done, which the next attempt finds done."""


class ParserStartError(RagAssetsError):
    """The parser process does not start, which is not the fault of any document."""


class EmbeddingError(RagAssetsError):
    """A model did not return one finite vector of the right dimension per text."""


class EmbeddingUnavailableError(EmbeddingError, UnavailableError):
    """The embedding server does not respond, or has been rate-limiting for too long."""


class RerankError(RagAssetsError):
    """A reranker did not return one finite score per text."""


class RerankUnavailableError(RerankError, UnavailableError):
    """A reranker does not answer in time, or its server does not respond or limits the rate."""


class VectorStoreError(RagAssetsError):
    """Milvus failed, cannot be reached, or does not hold the rows that were written."""


class VectorStoreUnavailableError(VectorStoreError, UnavailableError):
    """Milvus does not respond."""


class MoveRefusedError(RagAssetsError):
    """A model's role does not allow this step; the message names one that would help."""


class PromotionRefusedError(MoveRefusedError):
    """The collection is not fit to go live; the message lists every reason.

    Attributes:
        findings: The findings of all rules that were evaluated, for display.
        model: Key of the model.
    """

    def __init__(self, message: str, findings: "Sequence[Finding]" = (), model: str = "") -> None:
        super().__init__(message)
        self.findings = findings
        self.model = model


class ErasureError(RagAssetsError):
    """A document is not gone from the source, or something of it cannot be erased now.

    The message stands in logs, so it names a document by digest.
    """


class AlertError(RagAssetsError):
    """A webhook rejected an alert."""


class AlertUnavailableError(AlertError, UnavailableError):
    """A webhook does not respond, or is temporarily unavailable."""


class SearchError(RagAssetsError):
    """A query cannot be answered as it is."""


class NotLiveError(SearchError):
    """No query can be answered: nothing is live, or not from the spec in the models file."""


class NotLiveYetError(NotLiveError):
    """No query can be answered, because the first model is not live yet."""


class SearchUnavailableError(SearchError, UnavailableError):
    """The search service does not answer, or not in time, or is busy or failing."""
