"""Settings and the models file: read when they are loaded, wrong values named, secrets kept."""

from pathlib import Path

import dagster as dg
import pytest

from rag_assets.adapters.yaml_files import find_model_spec, read_model_specs
from rag_assets.core.errors import ConfigurationError
from rag_assets.defs.resources import IndexResource, build_resources, resolved
from rag_assets.settings import RENAMED, Settings, load_settings, variable


def test_the_defaults_need_no_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    settings = load_settings()

    assert settings.source == (tmp_path / ".rag-assets/documents").as_uri()
    assert settings.lake == (tmp_path / ".rag-assets/lake").as_uri()
    assert settings.model in read_model_specs(settings.models_file)


def test_variables_are_read_when_settings_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_ASSETS_INCLUDE", '["*.md", "x/**"]')
    monkeypatch.setenv("RAG_ASSETS_LAKE_URL", "s3://bucket/lake")

    assert load_settings().include == ["*.md", "x/**"]
    assert load_settings().lake == "s3://bucket/lake"


@pytest.mark.parametrize(
    ("name", "value"),
    [("SHARDS", "0"), ("MAX_DOCUMENT_BYTES", "big"), ("ALIAS", "no-dash"), ("CHUNK_TOKENS", "-1")],
)
def test_a_wrong_value_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"RAG_ASSETS_{name}", value)

    with pytest.raises(ConfigurationError, match=f"RAG_ASSETS_{name}: "):
        load_settings()


def test_a_list_that_is_no_json_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_ASSETS_INCLUDE", "*.md")

    with pytest.raises(ConfigurationError, match="include"):
        load_settings()


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_a_renamed_setting_is_refused_with_its_new_name(
    monkeypatch: pytest.MonkeyPatch, old: str, new: str
) -> None:
    monkeypatch.setenv(variable(old), "1")

    with pytest.raises(ConfigurationError, match=f"{variable(old)} is now {variable(new)}"):
        load_settings()

    assert old not in Settings.model_fields
    assert new in Settings.model_fields


def test_a_setting_that_moved_is_refused_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_ASSETS_PODS", "{}")

    with pytest.raises(ConfigurationError, match=r"PODS is now run_launcher\.config\.pods"):
        load_settings()


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_ASSETS_MILVUS_TOKEN", "hunter2")
    monkeypatch.setenv("RAG_ASSETS_EMBEDDING_API_KEY", "hunter2")
    monkeypatch.setenv("RAG_ASSETS_SOURCE_OPTIONS", '{"secret": "hunter2"}')
    monkeypatch.setenv("RAG_ASSETS_LAKE_OPTIONS", '{"secret": "hunter2"}')

    settings = load_settings()

    assert settings.source_options["secret"] == "hunter2"
    assert "hunter2" not in repr(settings) + str(settings)


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_the_shipped_models_are_valid() -> None:
    specs = read_model_specs(Settings().models_file)

    assert {"wordllama-256-v1", "minilm-l6-v1", "bge-m3-v1"} <= set(specs)
    assert all(spec.key == key for key, spec in specs.items())


def test_an_unknown_model_is_named_beside_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match=r"no model 'other' in .*minilm-l6-v1"):
        find_model_spec(Settings().models_file, "other")


@pytest.mark.parametrize("content", [None, "models: [", "models:\n  a-v1: {backend: none}"])
def test_a_models_file_that_cannot_be_used_is_named(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "own.yaml"
    if content is not None:
        path.write_text(content)

    with pytest.raises(ConfigurationError, match=r"own\.yaml"):
        read_model_specs(path)


SECRET = "hunter2"


def test_a_password_in_the_address_of_milvus_is_masked_and_its_resource_names_the_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAG_ASSETS_MILVUS_URI", f"http://me:{SECRET}@host:19530")
    settings = load_settings()

    assert build_resources(settings)["index"].milvus_uri == dg.EnvVar("RAG_ASSETS_MILVUS_URI")
    assert resolved(settings, IndexResource).milvus_uri == settings.milvus_uri


def test_a_password_in_the_address_of_milvus_changes_the_fingerprint_and_is_not_in_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prints = []
    for password in (SECRET, "other"):
        monkeypatch.setenv("RAG_ASSETS_MILVUS_URI", f"http://me:{password}@host:19530")
        prints.append(load_settings().fingerprint.split("-"))

    assert prints[0][0] == prints[1][0]  # twelve digits, by which a guess could be confirmed
    assert prints[0][1] != prints[1][1]  # four


@pytest.mark.parametrize("name", ["SOURCE_URL", "LAKE_URL", "MILVUS_IMPORT_URL"])
def test_a_password_in_the_address_of_data_is_refused_without_being_quoted(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(f"RAG_ASSETS_{name}", f"sftp://me:{SECRET}@host/folder")

    with pytest.raises(ConfigurationError, match=f"RAG_ASSETS_{name}: .*_OPTIONS") as refused:
        load_settings()

    assert SECRET not in str(refused.value)
    monkeypatch.setenv(f"RAG_ASSETS_{name}", "sftp://me@host/folder/a:b@c")
    assert load_settings()


def test_links_for_people_have_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_ASSETS_WEBSERVER_URL", f"https://me:{SECRET}@host/dagster")

    assert load_settings().webserver_url == "https://host/dagster"
