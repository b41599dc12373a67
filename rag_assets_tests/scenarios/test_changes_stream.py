"""What a running platform makes of changes in its bucket, scenarios e, k, m, n and s.

All of them happen in the same three rounds, so that the platform is awaited three times.
"""

from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
import polars as pl
import psutil
import pytest

from rag_assets.adapters.lake.lake import Lake, PartitionKey
from rag_assets.adapters.objects.object_store import open_object_store
from rag_assets.core.documents.document import Outcome
from rag_assets.core.identity import shard_keys, shard_of
from rag_assets.core.tables import CHUNKS, PARSED_DOCUMENTS
from rag_assets.instance.event_log import recent_lags
from rag_assets_tests.scenarios.environment import CANARY, SHARDS
from rag_assets_tests.scenarios.platform import Platform
from rag_assets_tests.scenarios.texts import document
from rag_assets_tests.support.held import Indexed
from rag_assets_tests.support.hostile import hostile_files

MODELS = ("steady-v1", "second-v1")
POISON = "deep.html"
TWINS = ("twin-a.md", "twin-d.md")  # in one shard, so that one run sees both


@dataclass
class Rounds:
    """What the index held after each round, and the texts that were embedded for it."""

    indexed: list[Indexed] = field(default_factory=list)
    embedded: list[list[str]] = field(default_factory=list)
    chunks: list[pl.DataFrame] = field(default_factory=list)

    def end(self, platform: Platform) -> None:
        self.indexed.append(platform.await_convergence())
        platform.await_idle()
        before = sum(len(texts) for texts in self.embedded)
        self.embedded.append(platform.embeddings.texts[before:])
        self.chunks.append(rows(platform, "chunks"))


def rows(platform: Platform, asset: str) -> pl.DataFrame:
    settings = platform.settings
    lake = Lake(open_object_store(settings.lake, settings.lake_options))
    schema = {"chunks": CHUNKS, "parsed_documents": PARSED_DOCUMENTS}[asset]
    keys = [PartitionKey(asset, shard) for shard in shard_keys(settings.shards)]
    return pl.concat([lake.read(key, schema).table for key in keys])


@pytest.fixture(scope="module")
def rounds(platform: Platform) -> Rounds:
    platform.register(MODELS[1])
    done = Rounds()
    for number in range(50):
        platform.put(f"{number:02}.md", document(f"d{number}", sections=1))
    platform.put("poison.html", hostile_files()[POISON][0])
    platform.put("shrinking.md", document("shrinking", sections=10))
    for name in TWINS:
        platform.put(name, "# Twins\n\nTwo keys with the same bytes.\n")
    platform.put("touched.md", "# Touched\n\nOnly the metadata of this one changes.\n")
    platform.put("often.md", "# Often\n\nVersion 0 of it.\n")
    platform.await_live()  # the gate embeds too: before what the later rounds count
    done.end(platform)

    platform.put("shrinking.md", document("shrinking", sections=3))
    platform.delete(TWINS[0])
    platform.touch("touched.md")
    for number in range(1, 6):  # within one second, so that LastModified is the same
        platform.put("often.md", f"# Often\n\nVersion {number} of it.\n")
    done.end(platform)

    platform.put("shrinking.md", "")
    done.end(platform)
    return done


def test_a_document_that_shrinks_leaves_no_stale_tail(rounds: Rounds) -> None:
    found = [len(indexed.get("shrinking.md", [])) for indexed in rounds.indexed]

    assert found[0] > found[1] > found[2] == 0


def test_of_two_keys_with_the_same_bytes_one_is_deleted_and_the_other_stays(
    rounds: Rounds,
) -> None:
    first, second = TWINS
    assert rounds.indexed[0][first] == rounds.indexed[0][second]
    assert first not in rounds.indexed[1]
    assert rounds.indexed[1][second] == rounds.indexed[0][second]


def test_the_same_text_is_embedded_once_for_each_model(rounds: Rounds) -> None:
    assert len({shard_of(name, shard_keys(SHARDS)) for name in TWINS}) == 1

    assert rounds.embedded[0].count("# Twins\n\nTwo keys with the same bytes.") == len(MODELS)


def test_one_poison_document_among_fifty_stops_none_of_the_others(
    platform: Platform, rounds: Rounds
) -> None:
    assert {f"{number:02}.md" for number in range(50)} <= rounds.indexed[0].keys()
    assert "poison.html" not in rounds.indexed[0]
    parsed = rows(platform, "parsed_documents").filter(document_id="poison.html")
    assert Outcome(parsed["outcome"][0]).quarantined


def test_versions_with_the_same_modification_time_end_with_the_last(rounds: Rounds) -> None:
    assert rounds.indexed[1]["often.md"] == ["# Often\n\nVersion 5 of it."]


def test_a_change_of_metadata_updates_rows_and_embeds_nothing(rounds: Rounds) -> None:
    assert not [text for text in rounds.embedded[1] if "Only the metadata" in text]
    before, after = (
        chunks.filter(document_id="touched.md")["modified_at"][0] for chunks in rounds.chunks[:2]
    )
    assert after > before


def test_only_what_changed_was_embedded(rounds: Rounds) -> None:
    changed = [text for text in rounds.embedded[1] if "Often" not in text]

    # Of the document that shrank, the chunk at the cut may differ; everything else is kept.
    assert len(changed) <= 2 * len(MODELS)
    assert rounds.embedded[2] == []


def test_the_lag_of_each_change_is_in_the_materialisations(
    platform: Platform, rounds: Rounds
) -> None:
    assert len(rounds.indexed) == 3
    lags = recent_lags(platform.instance)
    assert len(lags) >= len(MODELS)  # often.md, in both; the one that shrank lost rows only
    assert 0 < lags.min() <= lags.max() < 300
    records = platform.instance.fetch_materializations(dg.AssetKey("collection"), limit=50).records
    metrics = [record.asset_materialization.metadata for record in records]
    assert any("rag_assets/lag_seconds_max" in metadata for metadata in metrics)


RESOURCES = """query($selector: RepositorySelector!) {
  allTopLevelResourceDetailsOrError(repositorySelector: $selector) {
    ... on ResourceDetailsList { results { name configuredValues { key value type } } }
  }
  runsOrError { ... on Runs { results { tags { key value } runConfigYaml } } }
}"""


@pytest.mark.usefixtures("rounds")
def test_a_password_in_an_address_is_shown_nowhere(platform: Platform) -> None:
    assert CANARY in platform.environment["RAG_ASSETS_MILVUS_URI"]
    files = [path for path in platform.home.rglob("*") if path.is_file()]
    assert any(path.suffix == ".db" for path in files)
    assert [path for path in files if CANARY.encode() in content(path)] == []
    arguments = [" ".join(process.info["cmdline"] or ()) for process in processes()]
    assert any("dagster" in line for line in arguments)
    assert [line for line in arguments if CANARY in line] == []
    shown = str(platform.graphql(RESOURCES, selector=platform.selector()))
    assert "RAG_ASSETS_MILVUS_URI" in shown
    assert CANARY not in shown


def content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:  # a database's own files come and go
        return b""


def processes() -> list[psutil.Process]:
    return list(psutil.process_iter(["cmdline"]))
