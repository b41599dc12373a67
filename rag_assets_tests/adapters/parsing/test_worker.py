import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from rag_assets.adapters.parsing import worker as parse_worker
from rag_assets.adapters.parsing.worker import ParserPool, ParserStartError
from rag_assets.core.documents.document import Outcome
from rag_assets_tests.support.documents import PROSE, epub_bytes, pdf_bytes
from rag_assets_tests.support.hostile import hanging_html_bytes, hostile_files, swelling_docx_bytes

GIBIBYTE = 1 << 30
HOSTILE = hostile_files()


@pytest.fixture(scope="module")
def shared_pool():
    with ParserPool(1, timeout_seconds=30, memory_bytes=GIBIBYTE) as pool:
        yield pool


def parses_well(pool: ParserPool) -> bool:
    return PROSE in pool.parse("good.md", PROSE.encode()).markdown


def wait_until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_document_ends_with_an_outcome_and_the_pool_goes_on(shared_pool, name):
    content, acceptable = HOSTILE[name]
    document = shared_pool.parse(name, content)
    assert document.outcome in acceptable, document.error
    assert bool(document.markdown) == document.outcome.has_text
    assert (document.error is None) == (document.outcome is Outcome.PARSED)
    assert "root:" not in document.markdown  # nothing outside the document was read
    assert parses_well(shared_pool)


def test_a_document_that_hangs_is_killed_in_time():
    with ParserPool(1, timeout_seconds=5, memory_bytes=GIBIBYTE) as pool:
        started = time.monotonic()
        document = pool.parse("a.html", hanging_html_bytes())
        assert time.monotonic() - started < 60  # the limit is 5 s, and the machine may be busy
        assert (document.outcome, document.error) == (
            Outcome.TIMED_OUT,
            "Parsing took longer than 5 s (RAG_ASSETS_PARSE_TIMEOUT_SECONDS).",
        )
        assert parses_well(pool)


def test_a_small_document_that_swells_is_killed_at_the_memory_limit():
    with ParserPool(1, timeout_seconds=60, memory_bytes=150 << 20) as pool:
        document = pool.parse("a.docx", swelling_docx_bytes())
        assert document.outcome is Outcome.OUT_OF_MEMORY
        assert (
            document.error
            == "Parsing took more memory than 150 MiB (RAG_ASSETS_PARSE_MEMORY_BYTES)."
        )
        assert parses_well(pool)


def test_a_child_that_dies_while_parsing_is_a_crash_of_that_document_only():
    with ParserPool(1, timeout_seconds=60, memory_bytes=GIBIBYTE) as pool:
        assert parses_well(pool)
        threading.Timer(0.5, os.kill, (pool.pids[0], signal.SIGKILL)).start()
        document = pool.parse("a.html", hanging_html_bytes())
        assert document.outcome is Outcome.CRASHED
        assert "SIGKILL" in str(document.error)
        assert parses_well(pool)


def test_a_stopped_child_cannot_block_the_pool_even_with_a_document_larger_than_the_pipe():
    with ParserPool(1, timeout_seconds=5, memory_bytes=GIBIBYTE) as pool:
        assert parses_well(pool)
        os.kill(pool.pids[0], signal.SIGSTOP)
        assert pool.parse("a.txt", b"x" * 5_000_000).outcome is Outcome.TIMED_OUT
        assert parses_well(pool)


def test_a_child_that_died_while_idle_is_replaced_before_the_next_document():
    with ParserPool(1, timeout_seconds=60, memory_bytes=GIBIBYTE) as pool:
        assert parses_well(pool)
        process = psutil.Process(pool.pids[0])
        process.kill()
        wait_until(lambda: process.status() == psutil.STATUS_ZOMBIE)
        assert parses_well(pool)


def test_children_start_when_needed_are_reused_and_replaced_when_worn_out(monkeypatch):
    monkeypatch.setattr(parse_worker, "DOCUMENTS_PER_PROCESS", 2)
    with ParserPool(3, 60, GIBIBYTE) as pool:
        assert pool.pids == []
        used = []
        for _ in range(4):
            assert parses_well(pool)
            used += pool.pids
        assert len(used) == 4
        assert used[0] == used[1] != used[2] == used[3]


def test_many_threads_share_the_children_and_each_gets_its_own_document():
    with ParserPool(2, 60, GIBIBYTE) as pool, ThreadPoolExecutor(8) as threads:
        texts = [f"document number {n}" for n in range(60)]
        documents = threads.map(lambda text: pool.parse("a.txt", text.encode()), texts)
        assert [document.markdown for document in documents] == texts
        assert len(pool.pids) <= 2


def test_documents_that_are_parsed_together_are_parsed_with_one_message():
    with ParserPool(1, 60, GIBIBYTE) as pool:
        texts = [f"document number {n}" for n in range(20)]
        documents = pool.parse_all([("a.txt", text.encode()) for text in texts])
        assert [document.markdown for document in documents] == texts
        assert len(pool.pids) == 1
        assert pool.parse_all([]) == []


def test_of_documents_that_are_parsed_together_only_the_bad_one_suffers():
    with ParserPool(1, timeout_seconds=5, memory_bytes=GIBIBYTE) as pool:
        documents = pool.parse_all(
            [("a.txt", b"before"), ("b.html", hanging_html_bytes()), ("c.txt", b"after")]
        )
        assert [document.markdown for document in documents] == ["before", "", "after"]
        assert documents[1].outcome is Outcome.TIMED_OUT


def test_an_interrupted_request_never_answers_the_next_one(monkeypatch):
    with ParserPool(1, 60, GIBIBYTE) as pool:
        with monkeypatch.context() as patch:
            patch.setattr(parse_worker._Child, "request", send_and_be_interrupted)
            with pytest.raises(KeyboardInterrupt):
                pool.parse("a.txt", b"first")
        assert pool.parse("a.txt", b"second").markdown == "second"


def send_and_be_interrupted(child, *request):
    child._pipe.send(request)
    raise KeyboardInterrupt


def test_leaving_the_pool_ends_its_children():
    with ParserPool(1, 60, GIBIBYTE) as pool:
        assert parses_well(pool)
        (pid,) = pool.pids
    assert not psutil.pid_exists(pid)


def test_a_child_ends_when_its_parent_is_killed():
    script = (
        "import os, signal\n"
        "from rag_assets.adapters.parsing.worker import ParserPool\n"
        "pool = ParserPool(1, 10, 1 << 30)\n"
        "pool.parse('a.txt', b'text')\n"
        "print(pool.pids[0], flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wait_until(lambda: not is_running(int(done.stdout)))


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_child_loads_no_dagster_and_gets_no_credentials(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with ParserPool(1, 60, GIBIBYTE) as pool:
        assert pool.parse("a.epub", epub_bytes()).outcome is Outcome.PARSED
        process = psutil.Process(pool.pids[0])
        assert "AWS_SECRET_ACCESS_KEY" not in process.environ()
        maps = " ".join(entry.path for entry in process.memory_maps())
        assert "xberg" in maps
        assert "polars" not in maps


def test_a_parser_that_does_not_start_is_an_error_and_no_verdict_on_a_document(monkeypatch):
    monkeypatch.setattr(parse_worker, "_COMMAND", ["/bin/false"])
    with ParserPool(1, 60, GIBIBYTE) as pool:
        for _ in range(2):
            with pytest.raises(ParserStartError, match="does not start"):
                pool.parse("a.txt", b"text")


def test_a_child_writes_nothing_to_the_callers_output(capfd):
    with ParserPool(1, 60, GIBIBYTE) as pool:
        pool.parse("a.pdf", pdf_bytes()[:-300] + b"%%EOF")
    assert capfd.readouterr() == ("", "")


def test_what_a_child_sends_is_read_as_data_and_never_run(tmp_path, monkeypatch):
    """A child that a document took over answers with a pickle that would create a file."""
    evil = tmp_path / "evil.py"
    trace = tmp_path / "trace"
    evil.write_text(
        f"""
import os, pickle, sys
from multiprocessing.connection import Connection
class Trap:
    def __reduce__(self):
        return os.mkdir, ({str(trace)!r},)
pipe = Connection(int(sys.argv[1]))
pipe.send_bytes(b"ready")
pipe.recv()
pipe.send_bytes(pickle.dumps(Trap()))
pipe.recv()
"""
    )
    monkeypatch.setattr(parse_worker, "_COMMAND", [sys.executable, str(evil)])
    with ParserPool(1, timeout_seconds=30, memory_bytes=GIBIBYTE) as pool:
        assert pool.parse("a.md", b"text").outcome is Outcome.CRASHED
    assert not trace.exists()


def test_text_that_is_no_text_fails_alone():
    with ParserPool(1, timeout_seconds=30, memory_bytes=GIBIBYTE) as pool:
        good, bad = pool.parse_all([("good.md", PROSE.encode()), ("caf\udce9.xyz", b"x")])
        assert PROSE in good.markdown
        assert bad.outcome in (Outcome.SKIPPED, Outcome.PARSED)
        assert parses_well(pool)
