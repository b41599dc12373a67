"""Who is let in, as whom, and that a secret is in no message."""

import json
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from rag_assets.core.errors import ConfigurationError
from rag_assets.serving.service.access import issuer as issuers
from rag_assets.serving.service.access.authentication import Authentication
from rag_assets.serving.service.access.callers import (
    ANYBODY,
    Caller,
    NotAllowedError,
    NotAuthenticatedError,
)
from rag_assets.serving.service.access.issuer import IssuerUnavailableError
from rag_assets.settings import Settings
from rag_assets_tests.support.issuer import AUDIENCE, IssuerServer, issuer_server, new_key

SECRET, OTHER = "a-secret-of-sixteen", "another-of-sixteen-characters"
TOKENS = f"""
- name: portal
  token: {SECRET}
  principals: [group:staff]
- name: operator
  token_sha256: {sha256(OTHER.encode()).hexdigest()}
  acts_for_others: true
  operator: true
"""
CLAIMS = {"sub": "{}", "groups": "group:{}"}


@pytest.fixture(scope="module")
def running() -> Iterator[IssuerServer]:
    with issuer_server() as server:
        yield server


@pytest.fixture
def issuer(running: IssuerServer) -> IssuerServer:
    running.key_id, running.requests, running.failure = "first", [], ""
    return running


def by_issuer(issuer: IssuerServer, **settings: object) -> Authentication:
    given = {"serve_issuer": issuer.url, "serve_audience": AUDIENCE}
    given |= {"serve_principal_claims": CLAIMS, **settings}
    return Authentication.of(Settings(**given))  # type: ignore[arg-type]


def bearer(token: str) -> str:
    return f"Bearer {token}"


def test_a_token_of_the_file_tells_who_calls() -> None:
    authentication = Authentication.of(Settings(serve_tokens=TOKENS))  # type: ignore[arg-type]

    assert authentication.caller(bearer(SECRET)) == Caller("portal", ("group:staff",))
    operator = authentication.caller(f"bearer  {OTHER} ")
    assert operator == Caller("operator", (), acts_for_others=True, operator=True)


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", SECRET, f"Basic {SECRET}", "Bearer wrong", "Bearer \udc80"],
)
def test_anything_else_is_refused(header: str | None) -> None:
    authentication = Authentication.of(Settings(serve_tokens=TOKENS))  # type: ignore[arg-type]

    with pytest.raises(NotAuthenticatedError) as refused:
        authentication.caller(header)
    assert SECRET not in str(refused.value)


def test_the_file_is_read_again_when_it_changes_and_an_invalid_one_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "tokens.yaml"
    file.write_text(TOKENS)
    authentication = Authentication.of(Settings(serve_tokens_file=file))
    assert authentication.caller(bearer(SECRET)).name == "portal"

    file.write_text(f"- name: [\n  token: {SECRET}")
    assert authentication.caller(bearer(SECRET)).name == "portal"
    assert "The tokens read before are still accepted" in caplog.text
    assert SECRET not in caplog.text

    file.write_text("- {name: new, token: a-new-one-of-sixteen}")
    assert authentication.caller(bearer("a-new-one-of-sixteen")).name == "new"
    with pytest.raises(NotAuthenticatedError):
        authentication.caller(bearer(SECRET))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (f"- {{name: a, token: {SECRET}, token_sha256: {64 * 'a'}}}", "either"),
        ("- {name: a}", "either"),
        ("- {name: a, token: short}", "at least 16"),
        (f"- {{name: a, token: {SECRET}}}\n- {{name: a, token: {OTHER}}}", "the same name"),
        (f"- {{name: a, token: {SECRET}}}\n- {{name: b, token: {SECRET}}}", "or secret"),
        (f"- {{name: a, tokn: {SECRET}}}", "tokn"),
        (f'- name: "a\n  token: {SECRET}', "line"),
        (f"{SECRET}", "list of tokens"),
    ],
)
def test_invalid_tokens_are_refused_without_quoting_them(content: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as refused:
        Authentication.of(Settings(serve_tokens=content))  # type: ignore[arg-type]

    assert "RAG_ASSETS_SERVE_TOKENS" in str(refused.value)
    assert SECRET not in str(refused.value)
    assert refused.value.__cause__ is None


def test_a_token_of_the_issuer_tells_user_and_groups(issuer: IssuerServer) -> None:
    authentication = by_issuer(issuer, serve_operators=["group:admins"])

    ann = authentication.caller(bearer(issuer.token(groups=["legal", 7], email="ann@example.com")))
    assert ann == Caller("user:ann", ("user:ann", "group:legal"))
    root = authentication.caller(bearer(issuer.token(sub="root", groups="admins")))
    assert root == Caller("root", ("root", "group:admins"), operator=True)
    assert issuer.requests == ["/.well-known/openid-configuration", "/keys"]


def test_tokens_of_the_file_and_of_the_issuer_are_accepted_side_by_side(
    issuer: IssuerServer,
) -> None:
    authentication = by_issuer(issuer, serve_tokens=TOKENS)

    assert authentication.caller(bearer(SECRET)).name == "portal"
    assert authentication.caller(bearer(issuer.token())).name == "user:ann"


@pytest.mark.parametrize(
    ("claims", "says"),
    [
        ({"aud": "another application"}, "[Aa]udience"),
        ({"aud": None}, "aud"),
        ({"iss": "https://issuer.example"}, "[Ii]ssuer"),
        ({"exp": 1_000_000_000}, "expired"),
        ({"exp": None}, "exp"),
        ({"nbf": time.time() + 3600}, "not yet valid"),
        ({"sub": None}, "sub"),
        ({"headers": {"kid": "unknown"}}, "key"),
        ({"key": new_key()}, "[Ss]ignature"),
        ({"key": "a secret that is long enough for it", "algorithm": "HS256"}, "alg"),
        ({"key": "", "algorithm": "none"}, "alg"),
    ],
)
def test_any_other_token_is_refused(
    issuer: IssuerServer, claims: dict[str, object], says: str
) -> None:
    with pytest.raises(NotAuthenticatedError, match=says):
        by_issuer(issuer).caller(bearer(issuer.token(**claims)))  # type: ignore[arg-type]


@pytest.mark.parametrize("token", ["a.b.c", "....", "e30.e30.e30", "\udc80.\udc80.\udc80"])
def test_what_only_looks_like_a_token_is_refused(issuer: IssuerServer, token: str) -> None:
    with pytest.raises(NotAuthenticatedError):
        by_issuer(issuer).caller(bearer(token))


def test_tokens_with_unknown_keys_do_not_have_the_keys_fetched_each_time(
    issuer: IssuerServer,
) -> None:
    authentication = by_issuer(issuer)
    authentication.caller(bearer(issuer.token()))
    for _ in range(5):
        with pytest.raises(NotAuthenticatedError):
            authentication.caller(bearer(issuer.token(headers={"kid": "unknown"})))

    assert issuer.requests.count("/keys") == 1


def test_an_issuer_that_is_down_is_the_services_trouble_not_the_callers(
    issuer: IssuerServer,
) -> None:
    authentication = by_issuer(issuer, serve_issuer="http://127.0.0.1:9")
    with pytest.raises(IssuerUnavailableError):
        authentication.caller(bearer(issuer.token()))

    with pytest.raises(IssuerUnavailableError, match="another issuer"):
        by_issuer(issuer, serve_issuer=issuer.url.replace("127.0.0.1", "localhost")).caller(
            bearer(issuer.token())
        )


@pytest.mark.parametrize("failure", ["<html>Bad gateway</html>", "[]", '{"keys": []}'])
def test_while_the_issuer_is_down_its_last_keys_hold_and_it_is_asked_only_now_and_then(
    issuer: IssuerServer, failure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuers, "LIFESPAN", 1e-9)
    monkeypatch.setattr(issuers, "PAUSE", 3600)
    authentication = by_issuer(issuer)
    authentication.caller(bearer(issuer.token()))
    issuer.failure, issuer.requests = failure, []

    for _ in range(5):
        assert authentication.caller(bearer(issuer.token())).name == "user:ann"
        with pytest.raises(NotAuthenticatedError):
            authentication.caller(bearer(issuer.token(headers={"kid": "unknown"})))
    assert issuer.requests == ["/keys"]

    monkeypatch.setattr(issuers, "MAX_AGE", -1)
    with pytest.raises(IssuerUnavailableError):
        authentication.caller(bearer(issuer.token()))


def test_an_issuer_that_is_back_is_asked_for_its_new_keys(
    issuer: IssuerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuers, "PAUSE", 0)
    monkeypatch.setattr(issuers, "LIFESPAN", 1e-9)
    authentication = by_issuer(issuer)
    issuer.failure = "<html>Bad gateway</html>"
    with pytest.raises(IssuerUnavailableError):
        authentication.caller(bearer(issuer.token()))
    issuer.failure, issuer.key_id = "", "second"

    assert authentication.caller(bearer(issuer.token())).name == "user:ann"


def test_an_issuer_cannot_name_a_file_of_keys(
    issuer: IssuerServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "keys.json"
    file.write_text(json.dumps(issuer.answer("/keys")))
    issuer.failure = json.dumps({"issuer": issuer.url, "jwks_uri": file.as_uri()})

    with pytest.raises(IssuerUnavailableError):
        by_issuer(issuer).caller(bearer(issuer.token()))
    assert "scheme" in caplog.text


def test_an_issuer_needs_an_audience(issuer: IssuerServer) -> None:
    with pytest.raises(ConfigurationError, match="RAG_ASSETS_SERVE_AUDIENCE"):
        by_issuer(issuer, serve_audience="")


def test_a_file_and_a_text_of_tokens_contradict_each_other(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="not both"):
        Authentication.of(Settings(serve_tokens=TOKENS, serve_tokens_file=tmp_path))  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com"])
def test_without_authentication_only_loopback_is_listened_on(host: str) -> None:
    open_to_all = Authentication.of(Settings())

    assert open_to_all.caller(None) == ANYBODY
    for loopback in ("127.0.0.1", "::1", "localhost", "127.0.0.5"):
        open_to_all.check_host(loopback)
    with pytest.raises(ConfigurationError, match=r"loopback only.*RAG_ASSETS_SERVE_TOKENS_FILE"):
        open_to_all.check_host(host)
    Authentication.of(Settings(serve_tokens=TOKENS)).check_host(host)  # type: ignore[arg-type]


def test_principals_of_a_request_have_to_be_the_callers_unless_it_acts_for_others() -> None:
    ann = Caller("ann", ("user:ann", "group:legal"))

    assert ann.asking(None) == ("user:ann", "group:legal")
    assert ann.asking(["user:ann"]) == ["user:ann"]
    assert ann.asking([]) == []
    with pytest.raises(NotAllowedError, match="user:bob"):
        ann.asking(["user:bob", "user:ann"])
    assert Caller("portal", (), acts_for_others=True).asking(["user:bob"]) == ["user:bob"]
    assert Caller("portal", (), acts_for_others=True).asking(None) == ()
    assert ANYBODY.asking(None) is None
    with pytest.raises(NotAllowedError, match="operators only"):
        ann.require_operator("Searching a candidate")
