"""The rules for metadata: where a document's values come from, and who may see it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.core.errors import ConfigurationError
from rag_assets.core.metadata.rules import (
    Kind,
    MetadataRules,
    Origins,
    SourceRules,
    describe,
    metadata_rules,
)
from rag_assets.core.metadata.sidecars import described, sidecar_attributes

FIELDS = {"department": {"type": "string", "default": "general"}, "year": {"type": "integer"}}
SIDECAR = b'{"metadataAttributes": {"year": {"value": {"type": "NUMBER", "numberValue": 2020}}}}'


def rules(**content: Any) -> MetadataRules:
    return metadata_rules({"fields": FIELDS} | content, "metadata.yaml")


def permissions(**content: Any) -> MetadataRules:
    return rules(permissions={"default": "closed"} | content)


def of(origins: dict[Kind, dict[str, Any]], key: str = "a.md", **options: Any) -> Origins:
    return Origins(key, origins, **options)


def test_the_first_origin_with_a_value_counts() -> None:
    declared = rules(paths=["(?P<department>[^/]+)/"])
    found = of({Kind.SIDECAR: {"department": "tax"}, Kind.PROPERTY: {"year": "1999"}}, "legal/a")

    assert describe(declared, found).values == {"department": "tax", "year": 1999}
    assert describe(declared, of({}, "legal/a")).values == {"department": "legal"}
    assert describe(declared, of({}, "a")).values == {"department": "general"}


def test_an_origin_may_have_another_name() -> None:
    declared = metadata_rules(
        {"fields": {"team": {"type": "string", "from": ["tag:Team", "object:x-team"]}}}, "m"
    )

    assert describe(declared, of({Kind.TAG: {"Team": "a"}})).values == {"team": "a"}
    assert describe(declared, of({Kind.OBJECT: {"x-team": "b"}})).values == {"team": "b"}
    assert declared.kinds == {Kind.TAG, Kind.OBJECT}


def test_a_wrong_value_is_left_out_and_named_and_the_others_stay() -> None:
    found = describe(rules(), of({Kind.SIDECAR: {"year": "soon", "department": "tax"}}))

    assert found.values == {"department": "tax"}
    assert found.problems == ("year: in sidecar, 'soon' is not an integer of 64 bits",)


def test_an_unreadable_origin_hides_the_document_and_is_named() -> None:
    declared = permissions(default="open")
    found = describe(declared, of({}, problems={Kind.SIDECAR: "a.md.metadata.json: broken"}))

    assert (found.values, found.principals) == ({}, ())
    assert found.problems == (
        "a.md.metadata.json: broken",
        "principals: a.md.metadata.json: broken; nobody may see it",
    )


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("finance/q1.pdf", ("group:finance",)),
        ("finance/public/q1.pdf", ("*",)),
        ("finance/secret.pdf", ()),
        ("financeless.pdf", ("group:staff",)),
    ],
)
def test_permissions_are_inherited_from_the_longest_path(key: str, expected: Any) -> None:
    paths = {
        "": ["group:staff"],
        "finance/": ["group:finance"],
        "finance/public/": ["*"],
        "finance/secret.pdf": [],
    }

    assert describe(permissions(paths=paths), of({}, key)).principals == expected


def test_an_origin_with_an_empty_list_means_nobody() -> None:
    declared = permissions(default="open", paths={"": ["group:staff"]})

    assert describe(declared, of({Kind.SIDECAR: {"principals": []}})).principals == ()
    assert describe(declared, of({})).principals == ("group:staff",)


@pytest.mark.parametrize(("default", "expected"), [("closed", ()), ("open", ("*",))])
def test_a_document_without_permissions_has_the_default(default: str, expected: Any) -> None:
    assert describe(permissions(default=default), of({})).principals == expected


@given(
    st.dictionaries(
        st.sampled_from(["principals", "year", "department"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner),
        ),
    )
)
def test_no_attribute_shows_a_document_to_anybody_it_does_not_name(raw: dict[str, Any]) -> None:
    found = describe(permissions(), of({Kind.SIDECAR: raw}))

    named = raw.get("principals")
    texts = named.split(",") if isinstance(named, str) else named
    texts = texts if isinstance(texts, list) else [texts]
    assert {*found.principals} <= {str(text).strip() for text in texts}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"field": {}}, "field"),
        ({"fields": {"size": {"type": "integer"}}}, "size: these names are taken"),
        ({"fields": {"Year": {"type": "integer"}}}, "Year"),
        ({"fields": {"year": {"type": "number"}}}, "type"),
        ({"fields": {"year": {"type": "integer", "default": "x"}}}, "is not an integer"),
        ({"fields": {"year": {"type": "integer", "from": ["nowhere"]}}}, "from"),
        ({"paths": ["("]}, "is no regular expression"),
        ({"paths": ["a/"]}, "no named group"),
        ({"permissions": {}}, "default"),
        ([], "metadata.yaml"),
    ],
)
def test_a_mistake_in_the_file_is_named(document: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        metadata_rules(document, "metadata.yaml")


def test_the_version_changes_with_what_may_change_metadata_only() -> None:
    described_field = {"year": FIELDS["year"] | {"description": "Of publication."}}

    assert rules().version == rules().version
    assert rules(fields={"year": FIELDS["year"]}).version == rules(fields=described_field).version
    assert rules().version != permissions().version


def test_a_sources_rules_come_first() -> None:
    own = SourceRules(defaults={"department": "sales"}, permissions={"": ("group:sales",)})
    declared = permissions().of_source(own)

    found = describe(declared, of({}))

    assert (found.values, found.principals) == ({"department": "sales"}, ("group:sales",))
    with pytest.raises(ConfigurationError, match="Undeclared"):
        rules().of_source(SourceRules(defaults={"colour": "red"}))


def test_sidecars_of_bedrock_are_understood() -> None:
    assert sidecar_attributes(SIDECAR) == {"year": 2020}
    assert sidecar_attributes(b'\xef\xbb\xbf{"metadataAttributes": {"a": [1]}}') == {"a": [1]}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"a": 1}', b"\xff", b"[" * 100_000])
def test_what_is_no_sidecar_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="it "):
        sidecar_attributes(content)


def test_a_sidecar_is_told_by_its_name() -> None:
    assert described("a/b.pdf.metadata.json") == "a/b.pdf"
    assert described("a/b.pdf") is None
    assert described(".metadata.json") is None
    assert described("a/.metadata.json") is None
