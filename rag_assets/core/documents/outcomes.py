"""Counts of documents by outcome, so that what was listed adds up to what became of it.

Computed from the rows of a partition, stored in its footer as metrics, and read back from there.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import polars as pl

from rag_assets.core.documents.document import Outcome

OUTCOME, EXTENSION = "outcome:", "skipped:"  # prefixes of metrics
MAX_EXTENSIONS = 20  # stored per partition, the most frequent ones
NAMED_EXTENSIONS = 3  # in a sentence
WITHOUT = "no extension"
OTHERS = "others"


@dataclass(frozen=True, slots=True)
class Outcomes:
    """The documents of some shards.

    Attributes:
        counts: Outcome → number of documents, without zeros.
        skipped: File extension → number of skipped documents, most frequent first.
    """

    counts: Mapping[str, int] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)

    @property
    def documents(self) -> int:
        """The total number of documents."""
        return sum(self.counts.values())

    @property
    def with_text(self) -> int:
        """The number of documents whose text is in the index."""
        return sum(self.counts.get(outcome, 0) for outcome in Outcome if outcome.has_text)

    @property
    def quarantined(self) -> int:
        """The number of quarantined documents."""
        return sum(self.counts.get(outcome, 0) for outcome in Outcome if outcome.quarantined)

    @classmethod
    def of(cls, parsed: pl.DataFrame) -> "Outcomes":
        """Count the rows of `parsed_documents`."""
        skipped = pl.col("document_id").filter(pl.col("outcome") == Outcome.SKIPPED)
        extension = skipped.str.to_lowercase().str.extract(r"[^/](\.[^./]+)$")
        extensions = parsed.select(extension.fill_null(WITHOUT)).to_series()
        return cls(dict(Counter(parsed["outcome"])), _largest(Counter(extensions)))

    @classmethod
    def of_metrics(cls, metrics: Mapping[str, float]) -> "Outcomes":
        """Read the counts from a partition's metrics."""
        counts, skipped = (
            {
                name.removeprefix(prefix): int(n)
                for name, n in metrics.items()
                if name.startswith(prefix)
            }
            for prefix in (OUTCOME, EXTENSION)
        )
        return cls(counts, skipped)

    @classmethod
    def together(cls, parts: Iterable["Outcomes"]) -> "Outcomes":
        """Add up the documents of several shards."""
        shards = list(parts)
        counts, skipped = Counter[str](), Counter[str]()
        for shard in shards:
            counts.update(shard.counts)
            skipped.update(shard.skipped)
        return cls(dict(counts), dict(skipped.most_common()))

    def as_metrics(self) -> dict[str, float]:
        """Return the metrics to store in a partition's footer."""
        counts = {f"{OUTCOME}{name}": float(count) for name, count in self.counts.items()}
        return counts | {f"{EXTENSION}{name}": float(n) for name, n in self.skipped.items()}

    def by_outcome(self) -> Iterator[tuple[str, int]]:
        """Yield each outcome that some document has, and their number, in the enum's order."""
        for outcome in Outcome:
            if count := self.counts.get(outcome):
                yield str(outcome), count

    def __str__(self) -> str:
        """Return for instance "500 documents: 70 parsed, 1 encrypted, 429 skipped (429 .png)"."""
        parts = [f"{count:,} {outcome}" for outcome, count in self.by_outcome()]
        if self.skipped:
            shown = list(self.skipped.items())[:NAMED_EXTENSIONS]
            extensions = [f"{count:,} {name}" for name, count in shown]
            more = ["…"] if len(self.skipped) > NAMED_EXTENSIONS else []
            place = next(i for i, part in enumerate(parts) if part.endswith(Outcome.SKIPPED))
            parts[place] += f" ({', '.join([*extensions, *more])})"
        return f"{self.documents:,} documents" + (f": {', '.join(parts)}" if parts else "")


def has_outcomes(metrics: Mapping[str, float]) -> bool:
    """Whether a partition's metrics have the counts; earlier releases stored none."""
    return metrics.get("rows") == 0 or any(name.startswith(OUTCOME) for name in metrics)


def recounted(
    metrics: Mapping[str, float], before: pl.DataFrame, after: pl.DataFrame
) -> dict[str, float]:
    """Return a partition's metrics after documents with text were replaced by others with text."""
    counts = Counter({name: int(n) for name, n in metrics.items() if name.startswith(OUTCOME)})
    counts.update(f"{OUTCOME}{outcome}" for outcome in after["outcome"])
    counts.subtract(f"{OUTCOME}{outcome}" for outcome in before["outcome"])
    others = {name: n for name, n in metrics.items() if not name.startswith(OUTCOME)}
    return others | {name: float(count) for name, count in counts.items() if count}


def _largest(extensions: Counter[str]) -> dict[str, int]:
    """Bound the number of extensions, and add up the rest."""
    ordered = sorted(extensions.items(), key=lambda item: (-item[1], item[0]))
    rest = sum(count for _, count in ordered[MAX_EXTENSIONS:])
    return dict(ordered[:MAX_EXTENSIONS]) | ({OTHERS: rest} if rest else {})
