"""Where a question finds a document: its place in each ranking, against the rankings themselves."""

from collections.abc import Iterator

import pytest

from rag_assets.adapters.milvus.hits import Hit
from rag_assets.adapters.milvus.store import MilvusStore
from rag_assets.serving.question import Question
from rag_assets.serving.ranks import By, Ranking, Ranks
from rag_assets.serving.reranking import Reranking
from rag_assets.serving.searcher import Searcher
from rag_assets_tests.pipeline.test_metadata import RULES, describe
from rag_assets_tests.scenarios.texts import document
from rag_assets_tests.serving.test_hybrid_search import with_bm25
from rag_assets_tests.serving.test_reranking import ByLength
from rag_assets_tests.support.pipeline import Pipeline

COUNT = 12
QUESTION = document("doc 3").splitlines()[0]


@pytest.fixture(scope="module", params=["dense", "hybrid"])
def live(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, milvus_lite: str
) -> Iterator[Pipeline]:
    """Documents for all, one of them Ann's, in a dense collection or one with words."""
    folder = tmp_path_factory.mktemp(request.param)
    with Pipeline.create(folder, milvus_lite, rules=RULES) as opened:
        created = opened
        for number in range(COUNT):
            created.write(f"public/{number}.md", document(f"doc {number}"))
        created.write("hr/2024/ann.md", document("doc 3") + "\n\nAnn's own words.\n")
        describe(created, "hr/2024/ann.md", principals=["user:ann"])
        if request.param == "hybrid":
            created = opened.with_model(with_bm25())
        created.fill(0)
        created.promote()
        yield created


@pytest.fixture
def searcher(live: Pipeline) -> Searcher:
    index = live.index
    return Searcher(index.store, index.alias, index.find_spec, index.load)


def ranked(
    searcher: Searcher, document_id: str, *, unrestricted: bool = False, **asked: object
) -> Ranks:
    question = Question(text=QUESTION, **({"principals": []} | asked))  # type: ignore[arg-type]
    return searcher.ranks(question, document_id, unrestricted=unrestricted)


def by(found: Ranks, kind: By) -> Ranking:
    return next(ranking for ranking in found.rankings if ranking.by is kind)


@pytest.mark.parametrize("number", range(0, COUNT, 3))
def test_the_rank_is_that_of_the_search_itself(searcher: Searcher, number: int) -> None:
    document_id = f"public/{number}.md"
    hits = searcher.search(QUESTION, 1000, principals=[], hybrid=False, collapse=False)
    documents = [hit.document_id for hit in hits]
    place = documents.index(document_id)

    similarity = by(ranked(searcher, document_id), By.SIMILARITY)

    assert similarity.rank == place + 1
    assert similarity.score == pytest.approx(hits[place].score)
    assert [one.document_id for one in similarity.above] == documents[max(0, place - 5) : place]


def test_a_hybrid_search_has_a_ranking_of_words_and_one_of_both(
    searcher: Searcher, live: Pipeline
) -> None:
    found = ranked(searcher, "public/3.md")

    kinds = [ranking.by for ranking in found.rankings]
    if live.embedder.spec.sparse == "none":
        assert kinds == [By.SIMILARITY]
        return
    assert kinds == [By.SIMILARITY, By.WORDS, By.BOTH]
    assert by(found, By.WORDS).rank == 1
    fused = searcher.search(QUESTION, 100, principals=[], collapse=False)
    assert by(found, By.BOTH).rank == 1 + [h.document_id for h in fused].index("public/3.md")
    assert [r.by for r in ranked(searcher, "public/3.md", hybrid=False).rankings] == kinds[:1]
    other = searcher.ranks(Question(text="xylophone", principals=[]), "public/3.md")
    assert by(other, By.WORDS).note == "It has none of the question's words."


def test_what_a_reranker_makes_of_it_is_told(live: Pipeline) -> None:
    index = live.index
    reranking = Reranking(ByLength, seconds=30)  # type: ignore[arg-type]
    searcher = Searcher(index.store, index.alias, index.find_spec, index.load, reranking=reranking)
    try:
        ranking = by(ranked(searcher, "public/3.md"), By.RERANKER)
        hits = searcher.search(QUESTION, 50, principals=[])
    finally:
        reranking.close()

    places = [hit.document_id for hit in hits]
    assert ranking.rank == places.index("public/3.md") + 1
    assert ranking.score == hits[places.index("public/3.md")].rerank_score


def test_what_leaves_it_out_is_said(searcher: Searcher, live: Pipeline) -> None:
    hidden = "The filter, the prefix or the permissions of who asks leave it out."

    assert ranked(searcher, "hr/2024/ann.md").problem == hidden
    assert ranked(searcher, "public/3.md", where="department == 'hr'").problem == hidden
    assert ranked(searcher, "public/3.md", document_prefix="hr/").problem == hidden
    assert ranked(searcher, "nowhere.md").problem == f"{live.collection} has no rows of it."


def test_nobody_is_named_whom_the_asker_may_not_see_unless_an_operator_asks(
    searcher: Searcher,
) -> None:
    def named(**options: object) -> set[str]:
        found = ranked(searcher, "public/7.md", **options)  # type: ignore[arg-type]
        return {one.document_id for ranking in found.rankings for one in ranking.above}

    everything = {
        hit.document_id
        for hit in searcher.search(QUESTION, 100, principals=["user:ann"], collapse=False)
    }
    assert "hr/2024/ann.md" in everything
    assert "hr/2024/ann.md" not in named()
    ranks = by(
        ranked(searcher, "hr/2024/ann.md", principals=None, unrestricted=True), By.SIMILARITY
    )
    assert ranks.rank is not None


class Misses(MilvusStore):
    """Does not find one document, as may happen to an approximate index."""

    def search(self, *given: object, **options: object) -> list[Hit]:
        hits = super().search(*given, **options)  # type: ignore[arg-type]
        return [hit for hit in hits if hit.document_id != "public/3.md"]


def test_a_document_that_the_index_misses_is_told_from_one_that_is_far_away(
    live: Pipeline,
) -> None:
    store = Misses.connect(live.uri, rules=RULES)
    with Searcher(store, live.alias, live.index.find_spec, live.index.load) as searcher:
        ranking = by(ranked(searcher, "public/3.md", hybrid=False), By.SIMILARITY)

    assert ranking.rank is None
    assert "the approximate index has missed it" in ranking.note
    assert ranking.score is not None
