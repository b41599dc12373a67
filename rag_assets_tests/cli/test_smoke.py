"""`rag-assets smoke`: each part is asked, whatever the others say."""

from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result
from pymilvus import MilvusClient

from rag_assets.cli.main import main
from rag_assets.core.models.spec import collection_name
from rag_assets.settings import load_settings
from rag_assets_tests.support.filled import Fillings, by_command, fillings
from rag_assets_tests.support.held import milvus_client
from rag_assets_tests.support.milvus_servers import free_ports
from rag_assets_tests.support.pipeline import WORDLLAMA

__all__ = ["fillings"]


def smoked() -> Result:
    """Ask an installation whose UI is not there; `test_installation` asks a whole one."""
    [port] = free_ports(1)
    return CliRunner().invoke(main, ["smoke", "--ui", f"http://127.0.0.1:{port}"])


@pytest.fixture
def milvus(fillings: Fillings, monkeypatch: pytest.MonkeyPatch) -> Iterator[MilvusClient]:
    """The Milvus of a platform of one document, with an instance on disk."""
    fillings("a.md", fill=by_command).restored(monkeypatch)
    client = milvus_client(load_settings().milvus_uri)
    yield client
    client.close()


@pytest.mark.usefixtures("milvus")
def test_a_part_that_does_not_answer_fails_it_and_the_others_are_asked_too() -> None:
    result = smoked()

    assert result.exit_code == 1
    failed = [line.partition(":")[0] for line in result.output.splitlines() if "FAILED" in line]
    assert failed == ["Dagster's UI", "Code server"]
    assert "Sources: default has files" in result.output
    assert "Search: 'What is this about?' finds" in result.output


def test_no_live_model_is_no_failure_unless_there_was_one(milvus: MilvusClient) -> None:
    alias = load_settings().alias
    milvus.drop_alias(alias)
    milvus.release_collection(collection_name(alias, WORDLLAMA))
    assert "Search: FAILED. Nothing is live" in smoked().output

    milvus.drop_collection(collection_name(alias, WORDLLAMA))
    assert "Search: no model is live yet" in smoked().output
