"""`rag-assets smoke`: whether every part of an installation answers, as `helm test` asks.

What belongs here: asking each part the least that shows that it works. What does not: the state of
ingestion (`status.py`): an installation works before it has ingested anything.
"""

import sys
from collections.abc import Callable
from functools import partial

import click
import httpx2

from rag_assets.cli import services
from rag_assets.cli.terminal import echo, valid_text
from rag_assets.core.display import masked
from rag_assets.core.errors import NotLiveYetError, RagAssetsError
from rag_assets.settings import Settings, load_settings

TIMEOUT = 60.0  # seconds; the webserver asks the code server
LOADED = """{ workspaceOrError { ... on Workspace { locationEntries {
  name locationOrLoadError { __typename ... on PythonError { message } } } } } }"""


class PartError(RagAssetsError):
    """A part answers, but not as it should."""


@click.command()
@click.option(
    "--ui",
    default=f"http://{services.HOST}:3000",
    show_default=True,
    help="Address of the Dagster UI.",
)
@click.option(
    "--question",
    default="What is this about?",
    show_default=True,
    callback=valid_text,
    help="Question to search for, if a model is live.",
)
def smoke(ui: str, question: str) -> None:
    """Ask every part whether it answers, and search if a model is live.

    Each part is asked, whatever the others say. The exit code is 1 if one of them fails. It is no
    failure that no model is live yet.
    """
    settings = load_settings()
    services.use_instance(settings)
    parts: dict[str, Callable[[], str]] = {
        "Dagster's storage": _storage,
        "Dagster's UI": partial(_ui, ui),
        "Code server": partial(_code_server, ui),
        "Lake": partial(_lake, settings),
        "Sources": partial(_sources, settings),
        "Milvus": partial(_milvus, settings),
        "Search": partial(_search, settings, question),
    }
    works = {name: _told(name, ask) for name, ask in parts.items()}
    if not all(works.values()):
        sys.exit(1)


def _told(name: str, ask: Callable[[], str]) -> bool:
    """Ask a part and print what it says; return whether it works."""
    click.echo(f"{name}: ", nl=False)  # it may take some seconds
    try:
        echo(ask())
    except Exception as error:  # whatever it is, the other parts are asked too
        message = str(error) if isinstance(error, RagAssetsError) else repr(error)
        echo(f"FAILED. {masked(message)}", fg="red")
        return False
    return True


def _storage() -> str:
    import dagster as dg  # noqa: PLC0415 - slow to import

    with dg.DagsterInstance.get() as instance:
        return f"{instance.get_runs_count()} runs"


def _ui(ui: str) -> str:
    answer = httpx2.get(f"{ui}/server_info", timeout=TIMEOUT).raise_for_status()
    return f"Dagster {answer.json()['dagster_version']}"


def _code_server(ui: str) -> str:
    answer = httpx2.post(f"{ui}/graphql", json={"query": LOADED}, timeout=TIMEOUT)
    entries = answer.raise_for_status().json()["data"]["workspaceOrError"]["locationEntries"]
    for entry in entries:
        loaded = entry["locationOrLoadError"] or {}
        if loaded.get("__typename") != "RepositoryLocation":
            raise PartError(f"{entry['name']} is not loaded. {loaded.get('message', '')}".rstrip())
    return ", ".join(entry["name"] for entry in entries)


def _lake(settings: Settings) -> str:
    from rag_assets.defs.resources import IndexResource, resolved  # noqa: PLC0415

    return f"{resolved(settings, IndexResource).layout().shards} shards"


def _sources(settings: Settings) -> str:
    from rag_assets.cli.index import open_index  # noqa: PLC0415
    from rag_assets.defs.resources import SourcesResource, at_present, resolved  # noqa: PLC0415

    settings, _ = at_present(settings)
    sources = resolved(settings, SourcesResource).open(open_index(settings))
    found = {name: sources.source(name).is_empty for name in sources.active}
    return ", ".join(
        f"{name} {'is empty' if empty else 'has files'}" for name, empty in found.items()
    )


def _milvus(settings: Settings) -> str:
    from rag_assets.cli.index import open_index  # noqa: PLC0415
    from rag_assets.defs.resources import at_present  # noqa: PLC0415

    settings, _ = at_present(settings)
    with open_index(settings) as index:
        return f"{len(index.store.collections())} collections"


def _search(settings: Settings, question: str) -> str:
    from rag_assets.serving.searcher import Searcher  # noqa: PLC0415

    with Searcher.open(settings) as searcher:
        try:
            hits = searcher.search(question, limit=1, principals=[])
        except NotLiveYetError:
            return "no model is live yet"
    return f"{question!r} finds {hits[0].document_id if hits else 'nothing'}"
