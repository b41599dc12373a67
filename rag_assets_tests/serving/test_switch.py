"""I8, moment by moment: what a searcher does while the alias moves.

Also that the proof which an upgrade is evaluated by finds a wrong searcher out. The two models have
the same dimension, so that mixing them up raises no error.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from bench.load import Load, answered_by, ask
from rag_assets.adapters.embedders.embedder import Embedder
from rag_assets.adapters.milvus.errors import CollectionMissingError
from rag_assets.adapters.milvus.store import MilvusStore
from rag_assets.core.errors import ConfigurationError
from rag_assets.core.models.retrieval import known_item
from rag_assets.core.models.spec import ModelSpec
from rag_assets.core.models.vectors import Encoded
from rag_assets.serving import releases
from rag_assets.serving.question import Question
from rag_assets.serving.releases import Release, Releases, Serving
from rag_assets.serving.searcher import Answer, Searcher
from rag_assets_tests.scenarios.texts import document
from rag_assets_tests.support.pipeline import WORDLLAMA, Pipeline
from rag_assets_tests.support.variants import variant
from rag_assets_tests.support.waiting import awaited

OLD, NEW = WORDLLAMA, "rotated-v1"
NEVER = 3600.0  # seconds until the next look at the alias
PATIENCE = 20.0


@dataclass
class Switch:
    """Two models' collections over the same documents, and an alias that names one of them."""

    uri: str
    pipelines: Mapping[str, Pipeline]

    @property
    def alias(self) -> str:
        return self.pipelines[OLD].alias

    @property
    def store(self) -> MilvusStore:
        return self.pipelines[OLD].store

    @property
    def encoders(self) -> dict[str, Embedder]:
        return {key: pipeline.embedder for key, pipeline in self.pipelines.items()}

    @property
    def questions(self) -> list[str]:
        found = [known_item(text) for text in self.pipelines[OLD].chunks()["text"]]
        return [question for question in found if question]

    def collection(self, model: str) -> str:
        return self.pipelines[model].collection

    def move(self, model: str) -> None:
        self.store.set_alias(self.alias, self.collection(model))

    def retire(self, model: str) -> None:
        self.store.drop(self.collection(model))

    @contextmanager
    def searcher(
        self,
        kind: type[Searcher] = Searcher,
        load: Callable[[str], Embedder] | None = None,
        refresh_seconds: float = 0,
    ) -> Iterator[Searcher]:
        """A searcher of this kind that loads a model by its key."""
        chosen = load or self.encoders.__getitem__
        specs = {key: encoder.spec for key, encoder in self.encoders.items()}
        store = MilvusStore.connect(self.uri)
        with kind(
            store,
            self.alias,
            specs.__getitem__,
            lambda spec: chosen(spec.key),
            refresh_seconds=refresh_seconds,
        ) as created:
            yield created

    def answering(self, searcher: Searcher) -> str:
        """Ask once; return the model that answered, `mixed`, or the error."""
        answer = ask(searcher.search, self.questions[0])
        return answer.error or answered_by([answer], self.encoders)[0]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, milvus_lite: str) -> Iterator[Switch]:
    with Pipeline.create(tmp_path_factory.mktemp("switch"), milvus_lite) as old:
        for number in range(6):
            old.write(f"{number}.md", document(f"doc {number}"))
        old.list_all()
        old.parse_and_chunk_all()
        new = old.with_model(variant("rotated"))
        for pipeline in (old, new):
            pipeline.build()
        yield Switch(milvus_lite, {OLD: old, NEW: new})


@pytest.fixture
def switch(both: Switch) -> Switch:
    """Both collections are there, and the alias names the old one."""
    for pipeline in both.pipelines.values():
        pipeline.sync_all()
    both.move(OLD)
    return both


class Interrupted(Embedder):
    """A model after whose first encoding of a question something happens, before the search."""

    def __init__(self, inner: Embedder, then: Callable[[], None]) -> None:
        super().__init__(inner.spec, inner._backend)
        self._then = [then]

    def encode_queries(self, queries: Sequence[str]) -> Encoded:
        encoded = super().encode_queries(queries)
        if self._then:
            self._then.pop()()
        return encoded


class SearchesTheAlias(Searcher):
    """Wrong: searches whatever the alias names by then."""

    def _search(self, serving: Serving, question: Question) -> Answer:
        release = replace(serving.release, collection=self.releases._alias)
        return super()._search(Serving(release, serving.encoder), question)


class KeepsItsEncoder(Searcher):
    """Wrong: follows the alias, and encodes with the model that it began with."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.releases.__class__ = WithOneEncoder


class WithOneEncoder(Releases):
    def _serve(self, release: Release) -> Serving:
        before = self._serving
        serving = super()._serve(release)
        self._serving = Serving(release, before.encoder) if before else serving
        return self._serving


@pytest.mark.parametrize(
    ("kind", "mixes"), [(Searcher, False), (SearchesTheAlias, True), (KeepsItsEncoder, True)]
)
def test_the_proof_of_an_upgrade_finds_out_a_searcher_that_mixes_models(
    switch: Switch, kind: type[Searcher], mixes: bool
) -> None:
    interrupted = Interrupted(switch.encoders[OLD], lambda: switch.move(NEW))
    load_model = (switch.encoders | {OLD: interrupted}).__getitem__
    with (
        switch.searcher(kind, load_model) as searcher,
        Load(searcher.search, switch.questions).running(1) as load,
    ):

        def found() -> set[str]:
            return set(answered_by(load.answers, switch.encoders))

        awaited(lambda: found() - {OLD}, "an answer by what is live after the switch", PATIENCE)

    assert ("mixed" in found()) == mixes
    if not mixes:
        assert found() == {OLD, NEW}


def test_a_query_whose_collection_is_dropped_before_it_searches_is_answered_by_the_live_one(
    switch: Switch,
) -> None:
    def retire() -> None:
        switch.move(NEW)
        switch.retire(OLD)

    interrupted = Interrupted(switch.encoders[OLD], retire)
    load_model = (switch.encoders | {OLD: interrupted}).__getitem__
    with switch.searcher(load=load_model, refresh_seconds=NEVER) as searcher:
        assert switch.answering(searcher) == NEW


def test_a_query_is_repeated_once_and_no_more(
    switch: Switch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where what is live is missing too, another try would find the same."""
    searched: list[str] = []

    def missing(_: MilvusStore, name: str, *__: object, **___: object) -> None:
        searched.append(name)
        raise CollectionMissingError(name)

    with switch.searcher() as searcher:
        assert switch.answering(searcher) == OLD
        monkeypatch.setattr(MilvusStore, "search", missing)
        with pytest.raises(CollectionMissingError):
            searcher.search("anything")

    assert searched == [switch.collection(OLD)] * 2


def test_queries_go_on_from_the_release_before_while_the_new_model_loads(switch: Switch) -> None:
    loading, loaded = threading.Event(), threading.Event()

    def slowly(model: str) -> Embedder:
        if model == NEW:
            loading.set()
            assert loaded.wait(PATIENCE)
        return switch.encoders[model]

    with switch.searcher(load=slowly) as searcher:
        assert switch.answering(searcher) == OLD
        switch.move(NEW)
        try:
            assert [switch.answering(searcher) for _ in range(5)] == [OLD] * 5
            assert loading.wait(PATIENCE)
            assert switch.answering(searcher) == OLD
        finally:
            loaded.set()
        awaited(lambda: switch.answering(searcher) == NEW, "the new model to answer", PATIENCE)


def test_a_model_that_cannot_be_loaded_stops_no_query_and_is_tried_again(switch: Switch) -> None:
    broken = [True]

    def load(model: str) -> Embedder:
        if model == NEW and broken:
            broken.pop()
            raise ConfigurationError("no weights")
        return switch.encoders[model]

    with switch.searcher(load=load) as searcher:
        assert switch.answering(searcher) == OLD
        switch.move(NEW)
        answers: list[str] = []

        def answered() -> bool:
            answers.append(switch.answering(searcher))
            return answers[-1] == NEW

        awaited(answered, "the new model to answer", PATIENCE)

    assert not broken
    assert set(answers) == {OLD, NEW}


def test_both_models_stay_loaded_over_a_switch_and_back(switch: Switch) -> None:
    loads: list[str] = []

    def load(model: str) -> Embedder:
        loads.append(model)
        return switch.encoders[model]

    with switch.searcher(load=load) as searcher:
        for model in (OLD, NEW, OLD, NEW, OLD):
            switch.move(model)
            awaited(
                lambda expected=model: switch.answering(searcher) == expected,
                f"{model}'s answer",
                PATIENCE,
            )

    assert loads == [OLD, NEW]


def test_an_alias_that_leads_nowhere_stops_no_query(switch: Switch) -> None:
    with switch.searcher() as searcher:
        assert switch.answering(searcher) == OLD
        switch.pipelines[OLD].witness.drop_alias(switch.alias)
        assert switch.answering(searcher) == OLD
        switch.move(NEW)
        awaited(lambda: switch.answering(searcher) == NEW, "the new model to answer", PATIENCE)


def test_without_an_alias_the_fullest_collection_answers_with_its_own_encoder(
    switch: Switch, caplog: pytest.LogCaptureFixture
) -> None:
    """The live collection was dropped with the alias, and is being filled again."""
    new = switch.pipelines[NEW]
    switch.pipelines[OLD].witness.drop_alias(switch.alias)
    try:
        new.witness.delete(new.collection, filter='document_id != "1.md"')
        with caplog.at_level("ERROR"), switch.searcher() as searcher:
            assert switch.answering(searcher) == OLD
        assert f"Answering from {switch.collection(OLD)}" in caplog.text
        assert f"there is no alias '{switch.alias}'" in caplog.text
    finally:
        new.sync_all()
        switch.move(OLD)


def test_a_collection_that_is_dropped_with_the_alias_leaves_queries_to_the_other(
    switch: Switch,
) -> None:
    with switch.searcher(refresh_seconds=NEVER) as searcher:
        assert switch.answering(searcher) == OLD
        switch.pipelines[OLD].witness.drop_alias(switch.alias)
        switch.retire(OLD)
        assert switch.answering(searcher) == NEW


def test_an_alias_on_a_foreign_collection_stops_no_query(switch: Switch) -> None:
    theirs = f"theirs_{switch.alias}"
    switch.store.create(theirs, dimension=4)
    try:
        with switch.searcher() as following:
            assert switch.answering(following) == OLD
            switch.store.set_alias(switch.alias, theirs)
            assert switch.answering(following) == OLD
        with switch.searcher() as started_later:
            assert switch.answering(started_later) in (OLD, NEW)  # never a mixture, nor an error
    finally:
        switch.move(OLD)
        switch.store.drop(theirs)


def test_a_collection_of_a_model_that_is_not_known_stops_no_query(switch: Switch) -> None:
    def find_spec(model: str) -> ModelSpec:
        if model == NEW:
            raise ConfigurationError("not in the models file")
        return switch.encoders[model].spec

    with switch.searcher() as searcher:
        searcher.releases._find_spec = find_spec
        assert switch.answering(searcher) == OLD
        switch.move(NEW)
        assert switch.answering(searcher) == OLD


def test_the_alias_is_looked_at_no_more_often_than_set(
    switch: Switch, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(releases, "monotonic", lambda: now)
    with switch.searcher(refresh_seconds=5) as searcher:
        assert switch.answering(searcher) == OLD
        switch.move(NEW)
        now += 4.9
        assert switch.answering(searcher) == OLD
        assert list(searcher.releases._encoders) == [switch.encoders[OLD].spec.signature]
        now += 0.2

        def answered() -> bool:
            nonlocal now
            found = switch.answering(searcher)
            now += 5.1
            return found == NEW

        awaited(answered, "the new model to answer", PATIENCE)
