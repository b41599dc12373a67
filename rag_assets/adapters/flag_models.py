"""Loading FlagEmbedding's models, embedders and rerankers alike, and running them without waste.

What belongs here: the device, and what the library does too often or too loudly. What does not:
encoding (`embedders/flag.py`) and scoring (`rerankers/flag.py`).
"""

import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

from rag_assets.adapters.weights import checkpoint
from rag_assets.core.errors import ConfigurationError
from rag_assets.core.models.base_spec import BaseSpec, Precision


def load_model(
    automatic: str,
    spec: BaseSpec,
    *,
    pickled_weights: bool,
    pickled_beside: Iterable[str] = (),
    **options: Any,
) -> tuple[Any, bool]:
    """Load a model onto one device: `cuda:0` if there is a GPU, otherwise the CPU.

    Only one GPU is used, because FlagEmbedding starts a process for each further device.

    Args:
        automatic: The class of FlagEmbedding that chooses the model's class.
        spec: The model.
        pickled_weights: Whether weights may be pickle files, which can run code.
        pickled_beside: Names of pickle files that are loaded in addition to the weights.
        options: More arguments of the library.

    Returns:
        The library's model, and whether it is on a GPU.

    Raises:
        ConfigurationError: The weights are missing, are not allowed or cannot be loaded, or the
            library is not installed.
    """
    folder = checkpoint(spec, pickled_weights=pickled_weights, pickled_beside=pickled_beside)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # silences a warning on fork
    try:
        import FlagEmbedding  # noqa: PLC0415
        import torch  # noqa: PLC0415
        from transformers.utils.logging import disable_progress_bar  # noqa: PLC0415
    except ImportError as error:
        raise ConfigurationError(
            f"Model {spec.key} needs FlagEmbedding: pip install 'rag-assets[flagembedding]'."
        ) from error
    disable_progress_bar()  # type: ignore[no-untyped-call]  # a run's output goes to a log
    on_gpu = torch.cuda.is_available()
    fp16 = on_gpu and spec.precision is Precision.FP16
    try:
        model = getattr(FlagEmbedding, automatic).from_finetuned(
            str(folder),
            use_fp16=fp16,
            devices="cuda:0" if on_gpu else "cpu",
            trust_remote_code=False,
            **options,
        )
    except Exception as error:
        raise ConfigurationError(f"Model {spec.key} cannot be loaded: {error}") from error
    if not fp16:
        model.model.float()  # rerankers compute in the checkpoint's precision otherwise
    _silence(model)
    return model, on_gpu


def _silence(model: Any) -> None:
    """Replace the progress bars of a model's module, which has no option for it."""
    vars(sys.modules[type(model).__module__]).update(
        tqdm=lambda batches, **_: batches, trange=lambda *bounds, **_: range(*bounds)
    )


class FirstBatch:
    """Reuses the output of the first batch of a call, which FlagEmbedding computes twice.

    The first time is only to find out whether a batch of that size fits into memory. With 256 texts
    in batches of 32, that is one batch in nine.

    Attributes:
        failure: What went wrong in this call, if anything. FlagEmbedding takes every failure for a
            lack of memory and goes on with smaller batches, until there is nothing in them.
    """

    def __init__(self, model: Any) -> None:
        from transformers import PreTrainedModel  # noqa: PLC0415 - heavy

        encoder = next(part for part in model.modules() if isinstance(part, PreTrainedModel))
        self._forward: Callable[..., Any] = encoder.forward
        self._expected = False
        self._cached: tuple[Any, Any] | None = None
        self.failure = ""
        encoder.forward = self

    def begin(self) -> None:
        """Announce that the next batch is the first one of a call."""
        self._expected, self._cached, self.failure = True, None, ""

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Compute a batch, or return the output of the previous one if it is the same."""
        expected, cached = self._expected, self._cached
        self._expected, self._cached = False, None
        tokens = options.get("input_ids")
        if cached is not None and tokens is not None and cached[0].equal(tokens):
            return cached[1]
        try:
            output = self._forward(*args, **options)
        except RuntimeError as error:
            self.failure = repr(error)
            raise
        if expected:
            self._cached = (tokens, output)
        return output
