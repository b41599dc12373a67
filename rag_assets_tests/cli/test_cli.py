"""The command line, run as a user runs it."""

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import psutil
import pytest

from rag_assets.adapters.milvus.store import MilvusStore
from rag_assets.cli import services
from rag_assets.settings import Settings
from rag_assets_tests.support.milvus_servers import free_ports

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def rag_assets(
    *arguments: str, cwd: Path = ROOT, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / "rag-assets", *arguments],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_help_names_every_command() -> None:
    shown = rag_assets("--help").stdout

    assert all(command in shown for command in ("dev", "demo", "search", "settings"))


def test_settings_lists_every_variable_without_secrets() -> None:
    result = rag_assets("settings", RAG_ASSETS_MILVUS_TOKEN="root:hunter2")

    assert result.returncode == 0
    assert "hunter2" not in result.stdout + result.stderr
    for name in Settings.model_fields:
        assert f"RAG_ASSETS_{name.upper()}" in result.stdout


def test_settings_masks_a_password_in_a_url() -> None:
    for name in ("MILVUS_URI", "EVENTS_QUEUE_URL", "WEBSERVER_URL"):
        result = rag_assets("settings", **{f"RAG_ASSETS_{name}": "http://me:hunter2@host:1/x"})

        assert result.returncode == 0
        assert "hunter2" not in result.stdout + result.stderr
        assert "host:1/x" in result.stdout


def test_a_question_that_is_not_utf8_is_refused_with_a_sentence() -> None:
    result = subprocess.run(
        [BIN / "rag-assets", "search", b"caf\xe9"],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        check=False,
        timeout=60,
    )

    assert result.returncode == 2
    assert b"not valid UTF-8" in result.stderr
    assert b"Traceback" not in result.stderr


def test_a_wrong_setting_is_one_line_and_no_traceback() -> None:
    result = rag_assets("search", "x", RAG_ASSETS_SHARDS="-1")

    assert result.returncode == 1
    assert result.stderr.startswith("Error: Invalid settings: RAG_ASSETS_SHARDS")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("judge",), "`models judge` is now `models evaluate`."),
        (("build", "new-v1", "--beside", "--yes"), "--beside is now --concurrent."),
    ],
)
def test_an_old_name_is_refused_with_the_new_one(arguments: tuple[str, ...], message: str) -> None:
    result = rag_assets("models", *arguments)

    assert result.returncode == 2
    assert f"Error: {message}" in result.stderr


@pytest.mark.parametrize(("arguments", "old"), [((), "judge"), (("build",), "--beside")])
def test_an_old_name_is_not_shown_in_the_help(arguments: tuple[str, ...], old: str) -> None:
    shown = rag_assets("models", *arguments, "--help").stdout

    assert "Usage: rag-assets models" in shown
    assert old not in shown


@pytest.mark.parametrize(
    "arguments", [("search", "x"), ("models", "list"), ("models", "status"), ("erase", "x")]
)
def test_what_is_not_running_is_named_with_the_command_that_starts_it(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    [port] = free_ports(1)
    uri = f"http://127.0.0.1:{port}"

    result = rag_assets(*arguments, RAG_ASSETS_MILVUS_URI=uri, RAG_ASSETS_HOME=str(tmp_path))

    assert result.returncode == 1
    expected = f"Error: Milvus Lite is not running at {uri}. `rag-assets dev` starts it"
    assert result.stderr.startswith(expected)
    assert list(tmp_path.iterdir()) == []


def test_a_misspelt_variable_is_reported_with_the_one_that_was_meant() -> None:
    result = rag_assets("settings", "--changed", RAG_ASSETS_MODLE="x", RAG_ASSETS_SHARDS="9")

    assert result.returncode == 0
    assert result.stderr.count("RAG_ASSETS_MODLE is not a setting, and is ignored.") == 1
    assert "Did you mean RAG_ASSETS_MODEL?" in result.stderr
    assert "* RAG_ASSETS_SHARDS=9\n    Default: 8\n" in result.stdout
    assert "RAG_ASSETS_MODEL=" not in result.stdout


def test_settings_are_shown_as_a_shell_takes_them_and_whole_in_80_columns() -> None:
    patterns = '["**/*.md", "it\'s"]'

    shown = rag_assets("settings", COLUMNS="80", RAG_ASSETS_INCLUDE=patterns).stdout

    [line] = [line for line in shown.splitlines() if "RAG_ASSETS_INCLUDE=" in line]
    _, value = line.split("=", 1)
    assert shlex.split(value) == [patterns]
    assert all(f"RAG_ASSETS_{name.upper()}=" in shown for name in Settings.model_fields)


@pytest.mark.parametrize(("documents", "why"), [(False, "does not exist"), (True, "no documents")])
def test_the_demo_refuses_a_source_without_documents_before_it_starts_anything(
    documents: bool, why: str, tmp_path: Path
) -> None:
    source = tmp_path / "documents"
    if documents:
        source.mkdir()

    result = rag_assets("demo", "--source", str(source), RAG_ASSETS_HOME=str(tmp_path / "home"))

    assert result.returncode == 1
    assert why in result.stderr
    assert str(source) in result.stderr
    assert not (tmp_path / "home").exists()


def test_a_taken_port_is_said_before_anything_starts(tmp_path: Path) -> None:
    milvus, web = free_ports(2)
    with socket.create_server(("127.0.0.1", web)):
        result = rag_assets(
            "dev",
            "--port",
            str(web),
            RAG_ASSETS_HOME=str(tmp_path),
            RAG_ASSETS_MILVUS_URI=f"http://127.0.0.1:{milvus}",
        )

    assert result.returncode == 1
    assert f"port {web} on 127.0.0.1 is in use" in result.stderr
    assert not (tmp_path / "logs").exists()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, installed from its wheel into a folder of its own."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    source = shutil.copytree(ROOT / "rag_assets", folder / "checkout" / "rag_assets").parent
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(source)]
    subprocess.run([*pip, *build], check=True, timeout=300)
    [wheel] = folder.glob("*.whl")
    target = ["install", "--no-deps", "--target", str(folder / "site"), str(wheel)]
    subprocess.run([*pip, *target], check=True, timeout=300)
    shutil.rmtree(source)
    return folder / "site"


@pytest.mark.parametrize("name", ["workspace.yaml", "dagster.yaml", "demo/questions.yaml"])
def test_the_wheel_has_what_the_commands_need(name: str, installed: Path) -> None:
    packaged = (installed / "rag_assets" / name).read_bytes()

    used = subprocess.run(
        [sys.executable, "-c", "import rag_assets; print(rag_assets.__file__)"],
        cwd=installed.parent,
        env={"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(used.stdout.strip()).is_relative_to(installed)
    assert packaged == (ROOT / "rag_assets" / name).read_bytes()
    assert name.startswith("demo") or packaged == (ROOT / name).read_bytes()


def test_the_demo_answers_in_an_empty_folder_with_nothing_but_the_wheel(
    installed: Path, tmp_path: Path
) -> None:
    [milvus] = free_ports(1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kiln.md").write_text("# Kiln\n\nThe kiln is fired on Fridays.\n")

    result = rag_assets(
        *("demo", "--source", "mine", "--question", "When is the kiln fired?"),
        cwd=tmp_path,
        PYTHONPATH=str(installed),
        RAG_ASSETS_MILVUS_URI=f"http://127.0.0.1:{milvus}",
        COLUMNS="80",
    )

    assert result.returncode == 0, result.stderr
    assert "kiln.md" in result.stdout
    steps = result.stdout.partition("To see runs")[2]
    assert f". {os.path.relpath(BIN / 'activate', tmp_path)}" in steps
    assert f"export RAG_ASSETS_SOURCE_URL={(tmp_path / 'mine').as_uri()}" in steps
    assert "rag-assets dev" in steps


@contextmanager
def dev(installed: Path, home: Path) -> Iterator[tuple[subprocess.Popen[str], int, str]]:
    """Run `rag-assets dev` of the wheel in an empty folder until it says that it is ready."""
    milvus, web, search = free_ports(3)
    uri = f"http://127.0.0.1:{milvus}"
    process = subprocess.Popen(
        [BIN / "rag-assets", "dev", "--port", str(web), "--search-port", str(search)],
        cwd=home,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(installed),
            "RAG_ASSETS_MILVUS_URI": uri,
            "PYTHONUNBUFFERED": "1",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("Ready"):
                break
        else:
            pytest.fail("".join(lines))
        yield process, web, uri
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def children(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def test_dev_runs_everything_until_it_is_interrupted(installed: Path, tmp_path: Path) -> None:
    with dev(installed, tmp_path) as (process, web, uri):
        answer = httpx2.post(
            f"http://127.0.0.1:{web}/graphql",
            json={"query": "{ assetNodes { assetKey { path } } }"},
            timeout=120,
            **services.LOOPBACK,
        ).json()
        assets = {node["assetKey"]["path"][0] for node in answer["data"]["assetNodes"]}
        assert assets >= {"source_files", "parsed_documents", "chunks", "embeddings"}
        with MilvusStore.connect(uri) as store:
            assert store.collections() == []
        assert process.stdout is not None
        url = process.stdout.readline().removeprefix("Search: ").strip()
        page, ready = (httpx2.get(url + path, **services.LOOPBACK) for path in ("/", "/readyz"))
        assert "<title>Search</title>" in page.text
        assert ready.status_code == 503  # there is nothing to search yet
        started = children(process)
        assert len(started) >= 4

        process.send_signal(signal.SIGINT)

        assert process.wait(60) == 0
        assert [child for child in started if child.is_running() and not zombie(child)] == []


def test_dev_stops_everything_when_one_service_dies(installed: Path, tmp_path: Path) -> None:
    with dev(installed, tmp_path) as (process, _, _):
        started = children(process)
        [milvus] = [child for child in started if "milvus-lite" in " ".join(child.cmdline())]

        milvus.kill()

        assert process.wait(60) == 1
        assert process.stdout is not None
        assert "Milvus Lite ended with exit code -9" in process.stdout.read()
        assert [child for child in started if child.is_running() and not zombie(child)] == []


def zombie(process: psutil.Process) -> bool:
    """Tell whether it has ended and only waits to be reaped by whoever adopted it."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
