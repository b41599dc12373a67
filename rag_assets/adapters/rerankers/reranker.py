"""TEMP."""

from typing import Any


class Reranker:
    def scores(self, question: str, texts: list[str]) -> Any: ...


def load_reranker(spec: Any, **k: Any) -> Reranker: ...
