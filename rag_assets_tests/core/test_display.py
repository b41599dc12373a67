from rag_assets.core.display import has_credentials, masked, printable


def test_what_a_terminal_would_obey_is_shown() -> None:
    assert printable("\x1b[2J\x1b]0;title\x07done") == "\\x1b[2J\\x1b]0;title\\x07done"
    assert printable("a\rb\x9bc") == "a\\rb\\x9bc"


def test_what_would_show_another_name_is_shown() -> None:
    assert printable("invoice\u202efdp.exe") == "invoice\\u202efdp.exe"


def test_ordinary_text_of_any_script_stays() -> None:
    for text in (
        "zwei\n\tZeilen",
        "\u0645\u06cc\u200c\u062e\u0648",
        "👩\u200d🔧",
        "שלום",
        "e\u0301",
    ):
        assert printable(text) == text


def test_what_cannot_be_encoded_is_shown() -> None:
    assert printable("caf\udce9") == "caf\\udce9"


def test_users_and_passwords_are_masked_wherever_a_url_is() -> None:
    text = "no answer from http://me:p%40ss@host:1/a and s3://bucket/a@b"
    assert masked(text) == "no answer from http://***@host:1/a and s3://bucket/a@b"
    assert has_credentials("http://key@host")
    assert not has_credentials("http://host/a@b?c=d@e")
