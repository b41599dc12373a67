"""The rules for metadata of each source: the platform's, or with the source's own before them.

What belongs here: choosing the rules of a document. What does not: what rules are (`rules.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rag_assets.core.errors import ConfigurationError
from rag_assets.core.identity import digest
from rag_assets.core.metadata.rules import Kind, MetadataRules, SourceRules
from rag_assets.core.sources.source_ids import source_of


@dataclass(frozen=True)
class RulesBySource:
    """The rules of a platform's sources.

    Attributes:
        platform: The rules of sources without any of their own.
        own: Source → the platform's rules, after its own.
    """

    platform: MetadataRules = field(default_factory=MetadataRules)
    own: Mapping[str, MetadataRules] = field(default_factory=dict)

    def of(self, document_id: str) -> MetadataRules:
        """Return the rules of a document."""
        return self.own.get(source_of(document_id), self.platform)

    @property
    def kinds(self) -> frozenset[Kind]:
        """The kinds of origins that some value comes from."""
        return self.platform.kinds

    @property
    def nothing(self) -> bool:
        """Whether nothing is declared."""
        return self == RulesBySource()

    @property
    def version(self) -> str:
        """A digest that changes whenever a document may get other metadata."""
        own = (part for name in sorted(self.own) for part in (name, self.own[name].version))
        return digest(self.platform.version, *own) if self.own else self.platform.version


def rules_by_source(
    platform: MetadataRules, declared: Mapping[str, Mapping[str, Any]]
) -> RulesBySource:
    """Return the rules of sources, by what each declares under `metadata`.

    Raises:
        ConfigurationError: A source's rules are invalid; the message names it.
    """
    own: dict[str, MetadataRules] = {}
    for name, document in declared.items():
        try:
            rules = platform.of_source(SourceRules.model_validate(document))
        except (ValueError, ConfigurationError) as error:
            raise ConfigurationError(f"Source {name!r}, metadata: {error}") from error
        if rules != platform:
            own[name] = rules
    return RulesBySource(platform, own)
