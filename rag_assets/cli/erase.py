"""`rag-assets erase`: what is left of documents that are gone from the source.

What belongs here: options, confirmations and output. What does not: looking for documents and
erasing them (`ingestion.py`).
"""

from collections.abc import Iterable
from typing import Any

import click

from rag_assets.cli import services
from rag_assets.cli.terminal import Listing, SafeConsole, echo, valid_text, working
from rag_assets.core.erasure import Looked
from rag_assets.core.errors import ErasureError
from rag_assets.settings import load_settings


@click.command()
@click.argument("documents", metavar="DOCUMENT…", nargs=-1, required=True, callback=valid_text)
@click.option("--yes", is_flag=True, help="Skip the confirmation.")
def erase(documents: tuple[str, ...], *, yes: bool) -> None:
    """Erase what is left of documents that are gone from the source, and certify it.

    DOCUMENT is an id: the key, relative to the source's root. What is erased are rows and vectors
    in the lake, rows in Milvus, and previews and messages in Dagster's storage. The certificate is
    a materialisation of the asset erasures. To continue an erasure that was interrupted, repeat it.
    """
    settings, ids = load_settings(), frozenset(documents)
    services.require_milvus(settings)
    services.use_instance(settings)
    with working("Looking for the documents"):
        from rag_assets.cli.ingestion import erase as erase_documents  # noqa: PLC0415 - slow
        from rag_assets.cli.ingestion import find  # noqa: PLC0415

        refused, looks = find(settings, ids)
    if refused:
        raise ErasureError(" ".join(f"{id_!r} {why}." for id_, why in sorted(refused.items())))
    console = SafeConsole()
    console.print(_found(looks))
    if not yes:
        click.confirm(f"Erase {len(ids)} documents for good?", abort=True)
    with working("Erasing"):
        certificate = erase_documents(settings, ids)
    console.print(_certified(certificate["places"]))
    for sentence in certificate["not_shown"]:
        echo(f"Not shown: {sentence}")
    if certificate["concurrent_runs"]:
        echo(
            f"{certificate['concurrent_runs']} other runs are in progress. One that had read the"
            " documents before may write them again: repeat this later to see that none has."
        )
    echo(f"Erased. Certificate {certificate['digest']}, at {certificate['issued_at']}.", bold=True)


def _found(looks: Iterable[Looked]) -> Listing:
    rows = [(look.place, str(look.examined), str(look.found), look.unit) for look in looks]
    return Listing(("place", "examined", "with something of them", ""), rows)


def _certified(places: Iterable[dict[str, Any]]) -> Listing:
    names = ("place", "found", "examined", "left", "unit")
    rows = [tuple(str(place[name]) for name in names) for place in places]
    return Listing(("place", "erased", "examined since", "left", ""), rows)
