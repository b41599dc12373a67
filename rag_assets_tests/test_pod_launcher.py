"""What is wrong in RAG_ASSETS_PODS is named before a run needs it."""

import pytest

from rag_assets.core.errors import ConfigurationError
from rag_assets.pod_launcher import require_known_fields
from rag_assets.settings import load_settings


def test_a_pod_that_there_is_not_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_ASSETS_PODS", '{"huge": {}}')

    with pytest.raises(ConfigurationError, match=r"RAG_ASSETS_PODS: .*no pod 'huge'"):
        load_settings()


def test_a_field_that_kubernetes_does_not_have_is_named() -> None:
    pods = {"gpu": {"pod_spec_config": {"node_selectors": {}}}}

    with pytest.raises(ConfigurationError, match=r"RAG_ASSETS_PODS: gpu: .*node_selectors"):
        require_known_fields(pods)


def test_fields_may_be_written_as_kubernetes_writes_them() -> None:
    require_known_fields({"gpu": {"pod_spec_config": {"nodeSelector": {"gpu": "yes"}}}})
