"""The query side: answers questions from the live collection, or another one.

What belongs here: the stages of a search, in their order: encode, search, rerank, add context. What
does not: what is searched (`releases.py`), and what each stage does.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, Self, TypeVar

from rag_assets.adapters.embedders.embedder import Embedder, load_embedder
from rag_assets.adapters.milvus.errors import CollectionMissingError
from rag_assets.adapters.milvus.expressions import Span, all_of, has_prefix
from rag_assets.adapters.milvus.hits import Hit
from rag_assets.adapters.milvus.store import MilvusStore
from rag_assets.adapters.parsing.tokenizer import TokenCount
from rag_assets.adapters.yaml_files import find_model_spec, read_metadata_rules
from rag_assets.core.metadata.filters import Filter
from rag_assets.core.metadata.rules import MetadataRules
from rag_assets.core.models.spec import ModelSpec
from rag_assets.serving.arrangement import MARGIN, capped, collapsed, gathered
from rag_assets.serving.conditions import search_condition
from rag_assets.serving.context import TokenCounter, span, with_context
from rag_assets.serving.encoder import QueryVectors, encode_questions
from rag_assets.serving.question import Around, Question
from rag_assets.serving.ranks import Ranks, ranks
from rag_assets.serving.releases import Release, Releases, Serving
from rag_assets.serving.reranking import Reranking
from rag_assets.serving.stages import Stages
from rag_assets.settings import Settings, load_settings

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a question was answered with.

    Attributes:
        hits: The hits, best first.
        release: What they were found in.
        reranked: Whether a reranker determined their order.
    """

    hits: list[Hit]
    release: Release
    reranked: bool = False


class Searcher:
    """Answers questions from the live collection. Thread-safe; close it after use.

    A query is answered from one release, resolved before it begins: the release's own encoder
    encodes the question, and the search names the release's physical collection. So while the alias
    moves, a query never searches one model's collection with another model's vector.
    """

    def __init__(
        self,
        store: MilvusStore,
        alias: str,
        find_spec: Callable[[str], ModelSpec],
        load: Callable[[ModelSpec], Embedder] = load_embedder,
        *,
        refresh_seconds: float = 1.0,
        reranking: Reranking | None = None,
        count_tokens: TokenCounter | None = None,
        stages: Stages | None = None,
    ) -> None:
        """Answer from the collection that `alias` names.

        Args:
            store: The connection; it is closed with the searcher.
            alias: The alias of the live collection.
            find_spec: Finds a model's spec by key.
            load: Loads a model.
            refresh_seconds: Minimum interval between checks of the alias.
            reranking: The second stage, if there is one.
            count_tokens: Counts the tokens of hits with context; required for those.
            stages: Told how long each stage of a search took.
        """
        self._store = store
        self._stages = stages or Stages()
        self.releases = Releases(
            store, alias, find_spec, load, refresh_seconds=refresh_seconds, stages=self._stages
        )
        self.reranking = reranking or Reranking()
        self._count_tokens = count_tokens

    @classmethod
    def open(cls, settings: Settings | None = None, stages: Stages | None = None) -> Self:
        """Connect with the given settings, or those of the environment.

        Raises:
            ConfigurationError: The reranker is unknown.
            VectorStoreError: Milvus is unreachable.
        """
        settings = settings or load_settings()
        key = settings.embedding_api_key.get_secret_value()
        reranking = Reranking.of(settings, stages)
        return cls(
            MilvusStore.connect(
                settings.milvus_uri,
                token=settings.milvus_token.get_secret_value(),
                rules=read_metadata_rules(settings.metadata_file),
            ),
            settings.alias,
            lambda model: find_model_spec(settings.models_file, model),
            lambda spec: load_embedder(spec, api_key=key, pickled_weights=settings.pickled_weights),
            refresh_seconds=settings.search_refresh_seconds,
            reranking=reranking,
            count_tokens=TokenCount(settings.tokenizer),
            stages=stages,
        )

    @property
    def rules(self) -> MetadataRules:
        """The declared metadata."""
        return self._store.rules

    def search(
        self,
        question: str,
        limit: int = 10,
        *,
        document_prefix: str | None = None,
        where: Filter | str | Mapping[str, Any] | None = None,
        principals: Sequence[str] | None = None,
        hybrid: bool | None = None,
        rerank: bool | None = None,
        collapse: bool = True,
        per_document: int | None = None,
        around: Around | None = None,
    ) -> list[Hit]:
        """Find the chunks that answer a question best.

        Args:
            question: In the user's words; not empty.
            limit: Maximum number of hits, from 1 to 1,000.
            document_prefix: Prefix of the ids of documents to search, for instance a folder.
            where: Filter on the documents' metadata: `F.department == "legal"`, its text, or its
                form in JSON.
            principals: The user and groups who ask, compared exactly with those of documents.
                Required if permissions are on; if they are off, everyone sees all documents.
            hybrid: Whether to search by words, too; by default, if the collection can be.
            rerank: Whether to rerank the first hits; by default, if there is a reranker.
            collapse: Whether equal texts are one hit, whose `also_in` names the other places.
            per_document: Maximum number of hits of one document.
            around: What each hit brings of the text around it, in `context`.

        Returns:
            Hits, best first, each with document, heading, text, score, offsets and metadata. The
            score is the similarity or, with hybrid search, the sum of reciprocal ranks.

        Raises:
            SearchError: The question is empty, a parameter is out of bounds, the filter is invalid,
                or permissions are on and `principals` is left out.
            NotLiveError: Nothing is live, or it was built from another spec of its model.
            ConfigurationError: The live model is unknown or cannot be loaded.
            VectorStoreError: Milvus is unreachable.
        """
        asked = Question(
            text=question,
            limit=limit,
            document_prefix=document_prefix,
            where=where,
            principals=principals,
            hybrid=hybrid,
            rerank=rerank,
            collapse=collapse,
            per_document=per_document,
            around=around or Around(),
        )
        return self.answer(asked).hits

    def answer(self, question: Question) -> Answer:
        """Answer a question; see `search` for its parameters and errors.

        One that names a collection is answered from that one: a candidate, for instance.
        """
        question = question.checked()
        with self._stages.measured("total"):
            return self._from_current(question.collection, partial(self._search, question=question))

    def ranks(self, question: Question, document_id: str, *, unrestricted: bool = False) -> Ranks:
        """Return where a question finds a document, in each ranking; see `search` for errors.

        Args:
            question: The question; how its hits are arranged does not matter.
            document_id: The document.
            unrestricted: Whether to rank all documents, whoever may see them.
        """
        question = question.checked()

        def ranked(serving: Serving) -> Ranks:
            name = serving.release.collection
            condition = self._condition(
                serving.release,
                question.where,
                question.principals,
                question.document_prefix,
                unrestricted=unrestricted,
            )
            vectors = _encoded(serving, question)
            find = self._finding(serving.release, vectors, condition)

            def reranked() -> list[Hit]:
                return self.reranking(question.text, self._candidates(find, question))[0]

            stage = reranked if self.reranking.wanted(question.rerank) else None
            return ranks(self._store, name, document_id, vectors, condition=condition, rerank=stage)

        return self._from_current(question.collection, ranked)

    def chunks(self, wanted: Span, principals: Sequence[str] | None = None) -> Answer:
        """Return chunks of a document by their numbers, as hits without a score.

        Raises:
            SearchError: Permissions are on and `principals` is left out.
            NotLiveError, ConfigurationError, VectorStoreError: As for `search`.
        """

        def read(serving: Serving) -> Answer:
            condition = self._condition(serving.release, None, principals)
            name = serving.release.collection
            return Answer(self._store.chunks(name, [wanted], condition=condition), serving.release)

        return self._from_current(None, read)

    def release(self) -> Release:
        """Resolve the live release; see `Releases.live`."""
        return self.releases.live()

    def warm_up(self) -> Release:
        """Load what queries need, and answer one; return what they are answered from.

        Raises:
            RagAssetsError: It cannot be loaded, or nothing is live; as for `search`.
        """
        serving = self.releases.current()
        vectors = serving.encoder.encode("warm-up")
        self._store.search(serving.release.collection, vectors.dense, 1, condition="ordinal < 0")
        self.reranking.warm_up()
        if self._count_tokens:
            self._count_tokens(["warm-up"])
        return serving.release

    def close(self) -> None:
        """Close the connection."""
        self.reranking.close()
        self.releases.close()
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _from_current(self, collection: str | None, answer: Callable[[Serving], Found]) -> Found:
        """Answer from one release; from the next one if its collection was dropped meanwhile."""
        if collection is not None:
            return answer(self.releases.of_collection(collection))
        try:
            return answer(self.releases.current())
        except CollectionMissingError:
            return answer(self.releases.resolve_again())

    def _search(self, serving: Serving, question: Question) -> Answer:
        release = serving.release
        condition = self._condition(
            release, question.where, question.principals, question.document_prefix
        )
        with self._stages.measured("encode"):
            vectors = _encoded(serving, question)
        find = self._finding(release, vectors, condition)
        with self._stages.measured("search"):
            hits = self._candidates(find, question)
        reranked = False
        if self.reranking.wanted(question.rerank):
            with self._stages.measured("rerank"):
                hits, reranked = self.reranking(question.text, hits)
        hits = _chosen(hits, question)
        if question.around.reach:
            with self._stages.measured("context"):
                hits = self._with_context(release, hits, question.around, condition)
        return Answer(hits, release, reranked)

    def _condition(
        self,
        release: Release,
        where: Filter | str | Mapping[str, Any] | None,
        principals: Sequence[str] | None,
        document_prefix: str | None = None,
        *,
        unrestricted: bool = False,
    ) -> str:
        columns = self._store.field_types(release.collection)
        allowed = search_condition(
            self._store.rules,
            release.visibility,
            columns,
            where,
            principals,
            unrestricted=unrestricted,
        )
        return all_of(has_prefix("document_id", document_prefix or ""), allowed)

    def _finding(
        self, release: Release, vectors: QueryVectors, condition: str
    ) -> Callable[[int], list[Hit]]:
        return partial(
            self._store.search,
            release.collection,
            vectors.dense,
            sparse=vectors.sparse,
            condition=condition,
        )

    def _candidates(self, find: Callable[[int], list[Hit]], question: Question) -> list[Hit]:
        """Return as many hits as are reranked, or as are needed to choose from."""
        fewest = question.limit
        if self.reranking.wanted(question.rerank):
            fewest = max(fewest, self.reranking.candidates)
        if not question.collapse and question.per_document is None:
            return find(fewest)
        distinct = collapsed if question.collapse else list[Hit]

        def enough(hits: list[Hit]) -> bool:
            first = distinct(hits)[:fewest]
            if question.collapse and hits[-1].text in {hit.text for hit in first}:
                return False  # there may be more places of that text
            return len(first) == fewest and len(_chosen(first, question)) == question.limit

        hits = distinct(gathered(find, enough, fewest + MARGIN))
        first = hits[:fewest]
        return first if len(_chosen(first, question)) == question.limit else hits

    def _with_context(
        self, release: Release, hits: list[Hit], around: Around, condition: str
    ) -> list[Hit]:
        if self._count_tokens is None:
            raise TypeError("A searcher without `count_tokens` returns hits without context.")
        spans = [span(hit, around) for hit in hits]
        chunks = self._store.chunks(release.collection, spans, condition=condition)
        return with_context(hits, chunks, around, self._count_tokens)


def _encoded(serving: Serving, question: Question) -> QueryVectors:
    """Return the question's vectors: without the words unless both are searched."""
    vectors = serving.encoder.encode(question.text)
    return replace(vectors, sparse=None) if question.hybrid is False else vectors


def _chosen(hits: Sequence[Hit], question: Question) -> list[Hit]:
    """Return the first hits, no document more often than asked for."""
    allowed = capped(hits, question.per_document) if question.per_document else hits
    return list(islice(allowed, question.limit))


def search_collection(
    store: MilvusStore, collection: str, encoder: Embedder, question: str, limit: int
) -> list[Hit]:
    """Answer a question from one collection, by dense or hybrid search as its model specifies.

    The collection is a physical one, and the encoder the model it was built with. All documents are
    searched, whoever may see them.
    """
    [vectors] = encode_questions(encoder, [question])
    return store.search(collection, vectors.dense, limit, sparse=vectors.sparse)
