"""What is particular to FlagEmbedding's rerankers, on checkpoints of the real architectures."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    PreTrainedModel,
)

from rag_assets.adapters.package_files import sha256
from rag_assets.adapters.rerankers import flag
from rag_assets.adapters.rerankers.flag import FlagBackend
from rag_assets.adapters.rerankers.reranker import load_reranker
from rag_assets.core.errors import (
    ConfigurationError,
    RerankError,
    RerankUnavailableError,
    WeightsMismatchError,
)
from rag_assets.core.models.reranker_spec import RerankerClass, RerankerSpec
from rag_assets_tests.support.tiny_rerankers import MODELS, SIZES, tiny_reranker, written

pytestmark = pytest.mark.slow  # loads torch

QUESTION = "When is the kiln fired?"
TEXTS = ["A kiln is fired on Fridays.", "Snow", "The third text is the longest of them all."]
PROMPT = (
    "Given a query A and a passage B, determine whether the passage contains an answer to the query"
    " by providing a prediction of either 'Yes' or 'No'."
)
"""What BGE's language models are trained with."""


@pytest.fixture(params=MODELS)
def spec(request: pytest.FixtureRequest, tmp_path: Path) -> RerankerSpec:
    return tiny_reranker(tmp_path, request.param)


def expected(spec: RerankerSpec, text: str) -> float:
    """Compute a score without FlagEmbedding."""
    tokenizer = AutoTokenizer.from_pretrained(spec.name)
    if spec.model_class is RerankerClass.ENCODER_ONLY_BASE:
        model = AutoModelForSequenceClassification.from_pretrained(spec.name)
        logits = model(**tokenizer(QUESTION, text, return_tensors="pt")).logits[0]
        return float(torch.sigmoid(logits))
    model = AutoModelForCausalLM.from_pretrained(spec.name)
    prompt = f"A: {QUESTION}\nB: {text}\n{PROMPT}"
    tokens = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")["input_ids"]
    yes = tokenizer("Yes", add_special_tokens=False)["input_ids"][0]
    return float(torch.sigmoid(model(input_ids=tokens).logits[0, -1, yes]))


def test_a_score_is_the_sigmoid_of_the_models_output(spec: RerankerSpec) -> None:
    reranker = load_reranker(spec)

    with torch.no_grad():
        assert reranker.scores(QUESTION, TEXTS) == pytest.approx(
            [expected(spec, text) for text in TEXTS], abs=1e-5
        )
    assert reranker.on_gpu == torch.cuda.is_available()


def test_no_batch_is_computed_twice_and_no_progress_is_shown(
    spec: RerankerSpec, capsys: pytest.CaptureFixture[str]
) -> None:
    backend = FlagBackend(spec.model_copy(update={"batch_size": 2}), timeout_seconds=600)
    requested: list[int] = []
    backend._model.model.register_forward_pre_hook(
        lambda *given: requested.append(len(given[2]["input_ids"])), with_kwargs=True
    )
    computed = _count(backend)
    capsys.readouterr()

    pairs = [(QUESTION, text) for text in TEXTS]
    first, again = backend.score_pairs(pairs), backend.score_pairs(pairs)

    assert requested == [2, 2, 1] * 2  # as FlagEmbedding requests them
    assert computed == [2, 1] * 2
    assert np.array_equal(first, again)
    assert capsys.readouterr() == ("", "")


def _count(backend: FlagBackend) -> list[int]:
    """Return a list to which the size of each batch is added that the model computes."""
    compute = backend._first_batch._forward
    computed: list[int] = []

    def counted(*args: object, **options: torch.Tensor) -> object:
        computed.append(len(options["input_ids"]))
        return compute(*args, **options)

    backend._first_batch._forward = counted
    return computed


def test_what_exceeds_the_token_limit_has_no_effect(spec: RerankerSpec) -> None:
    reranker = load_reranker(spec.model_copy(update={"max_tokens": 64}))
    long = "one two three four five six seven eight nine ten " * 40

    text, longer_text = reranker.scores(QUESTION, [long, long + TEXTS[2]])
    question, longer_question = reranker.score_pairs([(long, "Snow"), (long + QUESTION, "Snow")])

    assert text == pytest.approx(longer_text, abs=1e-5)
    assert question == pytest.approx(longer_question, abs=1e-5)


def test_a_cpu_computes_in_fp32_whatever_the_weights_are(tmp_path: Path) -> None:
    model = BertForSequenceClassification(BertConfig(**SIZES)).half()
    spec = written(model, tmp_path, precision="fp16")

    backend = load_reranker(spec)._backend

    assert isinstance(backend, FlagBackend)
    assert {weights.dtype for weights in backend._model.model.parameters()} == {torch.float32}


# What is refused


def test_other_weights_than_the_pinned_ones_are_refused(spec: RerankerSpec) -> None:
    pinned = sha256(Path(spec.name) / "model.safetensors")
    assert load_reranker(spec.model_copy(update={"weights_sha256": pinned}))

    with pytest.raises(WeightsMismatchError, match=r"tiny-v1.*pins 0000"):
        load_reranker(spec.model_copy(update={"weights_sha256": "0" * 64}))


def test_weights_in_pickle_files_are_refused_unless_a_setting_allows_them(
    spec: RerankerSpec, tmp_path: Path
) -> None:
    safe = load_reranker(spec)
    state = safe._backend._model.model.state_dict()  # type: ignore[attr-defined]
    torch.save(state, tmp_path / "pytorch_model.bin")
    assert load_reranker(spec)  # the safetensors beside it are what is loaded
    (tmp_path / "model.safetensors").unlink()

    with pytest.raises(ConfigurationError, match=r"pytorch_model\.bin.*RAG_ASSETS_PICKLED_WEIGHTS"):
        load_reranker(spec)

    pickled = load_reranker(spec, pickled_weights=True)
    assert pickled.scores(QUESTION, TEXTS) == pytest.approx(safe.scores(QUESTION, TEXTS))


@pytest.mark.parametrize(
    ("model", "fields", "complaint"),
    [
        (BertModel(BertConfig(**SIZES)), {}, "is no reranker of class encoder-only-base"),
        (
            BertForSequenceClassification(BertConfig(**SIZES | {"num_labels": 2})),
            {},
            "has 2 outputs; a reranker has one",
        ),
        (
            BertForSequenceClassification(BertConfig(**SIZES)),
            {"max_tokens": 513},
            "up to 512 tokens; max_tokens is 513",
        ),
        (
            BertForSequenceClassification(BertConfig(**SIZES)),
            {"model_class": RerankerClass.DECODER_ONLY_BASE},
            "cannot be loaded|is no reranker of class decoder-only-base",
        ),
    ],
)
def test_a_checkpoint_that_would_score_at_random_is_refused(
    tmp_path: Path, model: PreTrainedModel, fields: dict[str, object], complaint: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"tiny-v1.*({complaint})"):
        load_reranker(written(model, tmp_path, **fields))


@pytest.mark.parametrize("name", ["/no/such/folder", "package:no_such_package/model"])
def test_a_checkpoint_that_is_missing_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"no.such"):
        load_reranker(tiny_reranker(tmp_path).model_copy(update={"name": name}))


def test_code_that_comes_with_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    spec = tiny_reranker(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(
        config.read_text()
        .replace('"model_type": "bert"', '"model_type": "own"')
        .replace("{", '{"auto_map": {"AutoConfig": "own.Config"},', 1)
    )
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Config: pass\n")

    with pytest.raises(ConfigurationError, match="tiny-v1"):
        load_reranker(spec)

    assert not (tmp_path / "ran").exists()


# What goes wrong while it runs


def test_no_batch_begins_after_the_time_is_over(
    spec: RerankerSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    reranker = load_reranker(spec.model_copy(update={"batch_size": 1}), timeout_seconds=10)
    backend = reranker._backend
    assert isinstance(backend, FlagBackend)
    computed = _count(backend)
    monkeypatch.setattr(flag, "monotonic", lambda: 6.0 * len(computed))  # a batch takes six seconds

    with pytest.raises(RerankUnavailableError, match=r"tiny-v1 did not score within 10 s"):
        reranker.scores(QUESTION, TEXTS)
    assert computed == [1, 1]

    assert reranker.scores(QUESTION, TEXTS[:1]).shape == (1,)  # the next call has its own time


def test_who_waits_for_another_threads_call_waits_no_longer_than_its_time(
    tmp_path: Path,
) -> None:
    reranker = load_reranker(tiny_reranker(tmp_path), timeout_seconds=0.01)
    backend = reranker._backend
    assert isinstance(backend, FlagBackend)

    with backend._turn, pytest.raises(RerankUnavailableError, match="tiny-v1 did not score"):
        reranker.scores(QUESTION, TEXTS)


def test_a_failure_of_the_model_is_told_as_it_was(spec: RerankerSpec) -> None:
    reranker = load_reranker(spec)
    backend = reranker._backend
    assert isinstance(backend, FlagBackend)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no kernel image")  # FlagEmbedding tries again with less and less

    forward, backend._first_batch._forward = backend._first_batch._forward, fail
    with pytest.raises(RerankError, match=r"tiny-v1 failed: .*no kernel image"):
        reranker.scores(QUESTION, TEXTS)

    backend._first_batch._forward = forward
    assert reranker.scores(QUESTION, TEXTS).shape == (3,)
