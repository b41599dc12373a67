"""What Prometheus makes of an exposition: its samples by name and labels."""

from dataclasses import dataclass

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from rag_assets.instance.reports.metrics import Exporter


@dataclass(frozen=True)
class Scrape:
    """The samples of one exposition."""

    text: str

    @classmethod
    def of(cls, exporter: Exporter) -> "Scrape":
        """Collect, and return what is served then."""
        exporter.refresh()
        return cls(generate_latest(exporter.registry()).decode())

    def all(self, name: str, **labels: str) -> dict[frozenset[tuple[str, str]], float]:
        """Return other labels → value of the samples with this name and these labels."""
        given = set(labels.items())
        return {
            frozenset(sample.labels.items() - given): sample.value
            for family in text_string_to_metric_families(self.text)
            for sample in family.samples
            if sample.name == f"rag_assets_{name}" and given <= sample.labels.items()
        }

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of these samples, of which there must be one at least."""
        found = self.all(name, **labels)
        assert found, f"no sample of {name} with {labels}"
        return sum(found.values())

    @property
    def names(self) -> set[str]:
        """The names of all series."""
        families = text_string_to_metric_families(self.text)
        return {sample.name for family in families for sample in family.samples}
