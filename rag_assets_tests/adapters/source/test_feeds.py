"""Feeds name what changed: from a folder's file system, and from a bucket's notifications."""

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from rag_assets.adapters.source import feeds
from rag_assets.adapters.source.event_queue import EventQueue
from rag_assets.adapters.source.feeds import ChangeFeed, FolderFeed, Hint, QueueFeed, open_feed
from rag_assets.core.errors import SourceError
from rag_assets_tests.support.s3_server import Bucket, Queue, notifications
from rag_assets_tests.support.waiting import awaited

LIMIT = 100
PROBE = "is anybody there"
LONG = 10_000  # seconds, which no test takes


@dataclass
class Following:
    """A feed that a thread follows, and what it has told so far."""

    feed: ChangeFeed
    limit: int = LIMIT
    hints: list[Hint] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    failure: BaseException | None = None

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._follow)

    def _follow(self) -> None:
        try:
            self.hints.extend(self.feed.hints(self.stop, self.limit))
        except BaseException as error:
            self.failure = error

    @property
    def named(self) -> set[str]:
        return {name for hint in list(self.hints) for name in hint.keys} - {PROBE}

    @property
    def list_all(self) -> bool:
        return any(hint.list_all for hint in list(self.hints))

    def await_named(self, *names: str) -> None:
        awaited(lambda: self.failure or set(names) <= self.named, f"{names} to be named", 60)

    def await_told(self, path: Path, name: str) -> None:
        """Write a file again and again, until it is told that it, or anything, has changed."""

        def told() -> object:
            path.write_text("again")
            return self.failure or self.list_all or name in self.named

        awaited(told, f"{name} to be told", 60)


@contextmanager
def following(feed: ChangeFeed, limit: int = LIMIT) -> Iterator[Following]:
    running = Following(feed, limit)
    running.thread.start()
    try:
        yield running
    finally:
        running.stop.set()
        running.thread.join(60)
    assert not running.thread.is_alive()
    if running.failure is not None:
        raise running.failure


@contextmanager
def watching(root: Path) -> Iterator[Following]:
    """Follow a folder, from the moment at which its changes are told."""
    with following(FolderFeed(root)) as running:

        def told() -> bool:
            (root / PROBE).write_text("")
            return bool(running.failure or running.hints)

        awaited(told, "the folder to be watched", 60)
        running.hints.clear()  # the first one, which has everything listed
        yield running


@pytest.fixture
def root(tmp_path: Path) -> Path:
    created = tmp_path / "with space"
    (created / "sub" / "deep").mkdir(parents=True)
    for name in ("a.md", "sub/a.md", "sub/deep/ü 漢字.md"):
        (created / name).write_text("before")
    return created


def written(root: Path) -> list[str]:
    names = ["new.md", "sub/new.md", "sub/deep/new %41+#.md"]
    for name in names:
        (root / name).write_text("new")
    return names


def changed(root: Path) -> list[str]:
    for name in ("a.md", "sub/deep/ü 漢字.md"):
        (root / name).write_text("after")
    return ["a.md", "sub/deep/ü 漢字.md"]


def replaced(root: Path) -> list[str]:
    (root / "sub" / ".a.md.tmp").write_text("after")
    (root / "sub" / ".a.md.tmp").replace(root / "sub" / "a.md")
    return ["sub/a.md"]


def deleted(root: Path) -> list[str]:
    (root / "a.md").unlink()
    (root / "sub" / "a.md").unlink()
    return ["a.md", "sub/a.md"]


def renamed(root: Path) -> list[str]:
    (root / "a.md").rename(root / "sub" / "b.md")
    return ["a.md", "sub/b.md"]


def moved_in(root: Path) -> list[str]:
    (root.parent / "outside.md").write_text("new")
    (root.parent / "outside.md").rename(root / "sub" / "inside.md")
    return ["sub/inside.md"]


def moved_out(root: Path) -> list[str]:
    (root / "sub" / "a.md").rename(root.parent / "outside.md")
    return ["sub/a.md"]


def removed_with_its_folder(root: Path) -> list[str]:
    shutil.rmtree(root / "sub")
    return ["sub/a.md", "sub/deep/ü 漢字.md"]


CHANGES = [
    written,
    changed,
    replaced,
    deleted,
    renamed,
    moved_in,
    moved_out,
    removed_with_its_folder,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_file_is_named_that_is(root: Path, change: Callable[[Path], list[str]]) -> None:
    with watching(root) as running:
        names = change(root)

        running.await_named(*names)

    assert not running.list_all


def test_a_folder_that_is_moved_into_place_has_everything_listed(root: Path) -> None:
    prepared = root.parent / "prepared"
    prepared.mkdir()
    (prepared / "inside.md").write_text("new")

    with watching(root) as running:
        prepared.rename(root / "moved")
        awaited(lambda: running.list_all, "a listing to be asked for", 60)

        (root / "moved" / "later.md").write_text("newer")
        running.await_named("moved/later.md")


def test_a_folder_that_is_renamed_has_everything_listed(root: Path) -> None:
    with watching(root) as running:
        (root / "sub").rename(root / "other")

        awaited(lambda: running.list_all, "a listing to be asked for", 60)


def test_a_file_in_a_new_folder_is_named_or_everything_is_listed(root: Path) -> None:
    with watching(root) as running:
        (root / "new" / "deep").mkdir(parents=True)
        (root / "new" / "deep" / "a.md").write_text("new")

        found = "new/deep/a.md"
        awaited(lambda: running.list_all or found in running.named, "it to be told", 60)


def test_a_name_that_is_no_utf8_does_not_end_the_feed(root: Path) -> None:
    with watching(root) as running:
        Path(os.fsdecode(os.fsencode(root) + b"/latin-\xe9.md")).write_bytes(b"x")

        running.await_told(root / "good.md", "good.md")


def test_a_root_that_is_a_link_is_watched_where_it_leads(root: Path) -> None:
    link = root.parent / "link"
    link.symlink_to(root)

    with watching(link) as running:
        (root / "sub" / "a.md").write_text("after")

        running.await_named("sub/a.md")


def test_what_changed_before_a_folder_was_watched_is_listed_and_then_hints_are_empty(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "LONGEST_POLL", 1)

    hints = FolderFeed(root).hints(threading.Event(), LIMIT)

    assert [next(hints), next(hints)] == [Hint(list_all=True), Hint()]


def test_following_a_folder_ends_when_it_is_stopped_and_not_only_after_a_poll(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "LONGEST_POLL", LONG)
    with watching(root) as running:
        running.stop.set()

        running.thread.join(60)

        assert not running.thread.is_alive()


def test_a_folder_that_is_not_there_cannot_be_watched(tmp_path: Path) -> None:
    feed = FolderFeed(tmp_path / "nowhere")

    with pytest.raises(SourceError, match=r"nowhere cannot be watched.*found by listing"):
        next(feed.hints(threading.Event(), LIMIT))


def test_a_folder_that_is_replaced_is_watched_anew_or_the_feed_fails(root: Path) -> None:
    """A volume may be mounted again; the feed must not be silent from then on."""
    with suppress(SourceError), watching(root) as running:
        root.rename(root.parent / "before")
        root.mkdir()

        running.await_told(root / "new.md", "new.md")


@pytest.fixture
def queue(bucket: Bucket) -> Iterator[Queue]:
    """A queue of the bucket's notifications, in which nothing waits."""
    with notifications(bucket) as created:
        created.client.purge_queue(QueueUrl=created.url)  # of the test event
        yield created


@pytest.fixture
def feed(bucket: Bucket, queue: Queue) -> QueueFeed:
    return QueueFeed(EventQueue(queue.url, queue.options), f"{bucket.url}/docs")


def first(feed: QueueFeed, limit: int = LIMIT) -> Hint:
    return next(feed.hints(threading.Event(), limit))


def held(queue: Queue) -> tuple[int, int]:
    """Return how many messages wait, and how many were delivered and not acknowledged."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = queue.client.get_queue_attributes(QueueUrl=queue.url, AttributeNames=names)
    waiting, delivered = (int(found["Attributes"][name]) for name in names)
    return waiting, delivered


def test_what_is_put_and_deleted_below_the_prefix_is_named(bucket: Bucket, feed: QueueFeed) -> None:
    for key in ("docs/a.md", "docs/sub/b ü+.md", "docs2/c.md", "elsewhere/docs/d.md", "e.md"):
        bucket.put(key, b"x")
    bucket.delete("docs/gone.md")
    bucket.put("docs/goes.md", b"x")
    bucket.delete("docs/goes.md")

    hint = first(feed)

    assert hint.keys == {"a.md", "sub/b ü+.md", "goes.md"}
    assert (hint.unreadable, hint.list_all, hint.more) == (0, False, False)


def test_without_a_prefix_every_key_is_named(bucket: Bucket, queue: Queue) -> None:
    bucket.put("docs/a.md", b"x")
    bucket.put("b.md", b"x")

    hint = first(QueueFeed(EventQueue(queue.url, queue.options), bucket.url))

    assert hint.keys == {"docs/a.md", "b.md"}


def test_what_waits_is_one_hint_beyond_one_request(bucket: Bucket, feed: QueueFeed) -> None:
    names = {f"{number}.md" for number in range(12)}
    for name in names:
        bucket.put(f"docs/{name}", b"x")

    hint = first(feed)

    assert hint.keys == names
    assert len(hint.messages) == 12


def test_what_comes_while_a_hint_is_gathered_belongs_to_it(
    bucket: Bucket, feed: QueueFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gather(_: float) -> None:
        bucket.put("docs/b.md", b"x")

    monkeypatch.setattr(feeds, "time", SimpleNamespace(sleep=gather))
    bucket.put("docs/a.md", b"x")

    assert first(feed).keys == {"a.md", "b.md"}


def test_more_than_the_limit_is_several_hints_and_nothing_is_left_out(
    bucket: Bucket, feed: QueueFeed
) -> None:
    names = {f"{number}.md" for number in range(25)}
    for name in names:
        bucket.put(f"docs/{name}", b"x")

    found = [first(feed, limit=10) for _ in range(3)]

    assert max(len(hint.messages) for hint in found) <= 10
    assert found[0].more
    assert names == {name for hint in found for name in hint.keys}


def test_messages_in_an_unknown_format_are_counted_and_acknowledged(
    bucket: Bucket, queue: Queue, feed: QueueFeed
) -> None:
    for body in ("this is no notification", "{}"):
        queue.client.send_message(QueueUrl=queue.url, MessageBody=body)
    bucket.put("docs/a.md", b"x")

    hint = feed.drained()
    feed.acknowledge(hint)

    assert (hint.keys, hint.unreadable) == ({"a.md"}, 2)
    assert held(queue) == (0, 0)


def test_what_is_not_acknowledged_is_told_again_and_what_is_acknowledged_is_not(
    bucket: Bucket, queue: Queue, feed: QueueFeed
) -> None:
    queue.client.set_queue_attributes(QueueUrl=queue.url, Attributes={"VisibilityTimeout": "1"})
    bucket.put("docs/followed.md", b"x")
    feed.acknowledge(first(feed))
    bucket.put("docs/forgotten.md", b"x")
    assert first(feed).keys == {"forgotten.md"}

    again = awaited(lambda: feed.drained().keys, "it to be told again", 60)

    assert again == {"forgotten.md"}


def test_many_messages_are_acknowledged_together(
    bucket: Bucket, queue: Queue, feed: QueueFeed
) -> None:
    for number in range(25):
        bucket.put(f"docs/{number}.md", b"x")

    hint = feed.drained()
    assert len(hint.keys) == 25
    assert held(queue) == (0, 25)

    feed.acknowledge(hint)
    assert held(queue) == (0, 0)


def test_a_queue_in_which_nothing_is_gives_empty_hints(
    feed: QueueFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "LONGEST_POLL", 1)

    assert first(feed) == Hint()
    assert feed.drained() == Hint()
    feed.acknowledge(Hint())


def test_following_a_queue_ends_once_it_is_stopped(bucket: Bucket, feed: QueueFeed) -> None:
    bucket.put("docs/a.md", b"x")
    stop, found = threading.Event(), []

    for hint in feed.hints(stop, LIMIT):
        found.append(hint)
        stop.set()

    assert [hint.keys for hint in found] == [{"a.md"}]
    assert list(feed.hints(stop, LIMIT)) == []


def test_a_queue_that_is_gone_is_a_source_error(queue: Queue, feed: QueueFeed) -> None:
    queue.client.delete_queue(QueueUrl=queue.url)

    with pytest.raises(SourceError, match="refused"):
        first(feed)


OPTIONS = {
    "region_name": "us-east-1",
    "aws_access_key_id": "test",
    "aws_secret_access_key": "test",
}


@pytest.mark.parametrize("source", ["s3://bucket/docs", "/a/folder", "memory://elsewhere"])
def test_a_queue_is_followed_whatever_the_source_is(source: str) -> None:
    feed = open_feed(source, "http://127.0.0.1:1/queue", OPTIONS)

    assert isinstance(feed, QueueFeed)


@pytest.mark.parametrize("source", ["{}/a b", "file://{}/a%20b", "{}/sub/../a b"])
def test_a_folder_is_watched_if_there_is_no_queue(tmp_path: Path, source: str) -> None:
    (tmp_path / "a b").mkdir()
    (tmp_path / "sub").mkdir()

    feed = open_feed(source.format(tmp_path), "", {})

    assert isinstance(feed, FolderFeed)
    with watching(tmp_path / "a b"):  # it can be watched, under this name
        assert feed._root == (tmp_path / "a b").resolve()


@pytest.mark.parametrize("source", ["s3://bucket/docs", "memory://elsewhere", "gs://bucket"])
def test_any_other_source_has_no_feed(source: str) -> None:
    assert open_feed(source, "", {}) is None


def test_wrong_options_of_a_queue_are_a_source_error() -> None:
    with pytest.raises(SourceError, match="Cannot open the queue"):
        open_feed("s3://bucket", "http://127.0.0.1:1/queue", OPTIONS | {"nonsense": "1"})
