"""The declaration of sources: a closed schema, in which secrets are only referred to."""

from typing import Any

import pytest

from rag_assets.core.errors import ConfigurationError
from rag_assets.core.sources.spec import source_specs, with_secrets

URL = "s3://bucket/hr"


def specs(fields: Any, name: Any = "hr", **defaults: Any) -> Any:
    return source_specs({"sources": {name: fields}}, "sources.yaml", defaults)


def test_a_source_needs_no_more_than_its_url() -> None:
    [spec] = specs({"url": URL}).values()

    assert (spec.url, spec.include, spec.previews, spec.metadata) == (URL, ["**"], True, {})


def test_what_a_source_does_not_state_is_as_the_settings_say() -> None:
    [spec] = specs({"url": URL, "include": ["a"]}, include=["b"], exclude=["c"]).values()

    assert (spec.include, spec.exclude) == (["a"], ["c"])


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ([], "must contain a mapping `sources:`"),
        ({"sources": []}, "must contain a mapping `sources:`"),
        ({"sources": {}, "source": {}}, "unknown at the top level: source"),
        ({"sources": {"hr": URL}}, "'hr' must be a mapping"),
        ({"sources": {"hr": {}}}, "'hr': url: Field required"),
        ({"sources": {"hr": {"url": ""}}}, "'hr': url: String should have at least 1 character"),
        ({"sources": {"hr": {"url": "s3:/x"}}}, "'hr': url: .* write `s3://`"),
        ({"sources": {"hr": {"url": "sftp://me:pw@host/x"}}}, "contains a password"),
        ({"sources": {"hr": {"url": URL, "incude": []}}}, "'hr': incude: Extra inputs"),
        ({"sources": {"hr": {"url": URL, "max_removal_share": 2}}}, "max_removal_share: Input"),
        ({"sources": {"HR": {"url": URL}}}, "'HR': a name has lower-case letters"),
        ({"sources": {"a--b": {"url": URL}}}, "a name has lower-case letters"),
        ({"sources": {"a/b": {"url": URL}}}, "a name has lower-case letters"),
        ({"sources": {7: {"url": URL}}}, "a name has lower-case letters"),
        ({"sources": {"a" * 65: {"url": URL}}}, "a name has lower-case letters"),
    ],
)
def test_what_is_wrong_is_refused_by_name(document: Any, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason) as refused:
        source_specs(document, "sources.yaml")

    assert "sources.yaml" in str(refused.value)
    assert "pw" not in str(refused.value)


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"key": "AKIA"}, "options.key"),
        ({"secret": "x"}, "options.secret"),
        ({"client_kwargs": {"aws_secret_access_key": "x"}}, "options.client_kwargs.aws_secret"),
        ({"client_kwargs": {"secretAccessKey": "x"}}, "options.client_kwargs.secretAccessKey"),
        ({"account_key": "x"}, "options.account_key"),
        ({"connection_string": "x"}, "options.connection_string"),
        ({"sas-token": "x"}, "options.sas-token"),
        ({"password": 1234}, "options.password"),
        ({"token": {"private": "x"}}, "options.token.private"),
        ({"passwords": [], "token": ["x"]}, "options.token"),
        ({"endpoint_url": "https://${HOST}:9000"}, "options.endpoint_url"),
    ],
)
def test_a_secret_is_refused_with_the_way_to_write_it(options: Any, where: str) -> None:
    with pytest.raises(ConfigurationError, match=where) as refused:
        specs({"url": URL, "options": options})

    assert "`${NAME}`" in str(refused.value)
    assert "AKIA" not in str(refused.value)


def test_references_and_what_is_no_secret_are_accepted() -> None:
    options = {
        "key": "${HR_KEY}",
        "anon": False,
        "token": "anon",
        "endpoint_url": "https://s3",
        "client_kwargs": {"secret": None, "list": ["${A}"]},
    }
    [spec] = specs({"url": URL, "options": options, "events_options": options}).values()

    resolved = with_secrets(spec.options, {"HR_KEY": "k", "A": "a"})

    assert resolved == {**options, "key": "k", "client_kwargs": {"secret": None, "list": ["a"]}}
    assert "HR_KEY" not in repr(spec)


def test_a_variable_that_is_not_set_is_named() -> None:
    with pytest.raises(ConfigurationError, match="variable HR_KEY, which is not set"):
        with_secrets({"key": "${HR_KEY}"}, {})
