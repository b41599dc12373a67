"""A seeded soak: documents change while runs, Milvus and the daemon are killed at random moments.

In its middle a model is built, promoted and rolled back.

Short as a test, longer by `python -m bench.soak`.
"""

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from rag_assets.core.names import Asset, Job
from rag_assets_tests.scenarios.platform import Platform
from rag_assets_tests.scenarios.runs import recent_runs
from rag_assets_tests.scenarios.texts import document, paragraph

FAULT_EVERY = 8.0  # seconds, on average
REFUSED_FOR = 3.0
PAUSE = 2.0  # seconds between two looks at what is awaited
BUILT = "candidate-v1"
SETTINGS = {"RAG_ASSETS_GATE_SAMPLED_CHUNKS": "32"}  # of a few, all may just be changing


@dataclass
class Soak:
    """One soak: what was done, and what the documents should now be."""

    platform: Platform
    seed: int
    done: Counter[str] = field(default_factory=Counter)
    names: list[str] = field(default_factory=list)
    _texts: dict[str, str] = field(default_factory=dict)
    _number: int = 0
    _fault_at: float = field(default_factory=lambda: time.monotonic() + FAULT_EVERY)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def run(self, seconds: float, settle_seconds: float = 600) -> dict[str, float]:
        """Do harm for some seconds, let things settle, and compare bucket and index exactly.

        Returns:
            How often everything was done, and the seconds until the index agreed.
        """
        for _ in range(20):
            self._add()
        began = time.monotonic()
        self._harm_until(began + seconds / 3)
        peace = began + 2 * seconds / 3  # a model that is built needs some
        for step in self._life():  # in its middle, while documents change
            self._harm_once(faults=time.monotonic() < peace)
            time.sleep(PAUSE)
            if time.monotonic() > began + seconds + settle_seconds:
                pytest.fail(f"{step}\n{recent_runs(self.platform.instance)}")
        self._harm_until(began + seconds)
        settling = time.monotonic()
        desired = self.platform.await_convergence(settle_seconds)
        taken = time.monotonic() - settling
        self.platform.await_idle()
        run = self.platform.await_run(self.platform.launch(Job.AUDIT))
        assert run.is_success
        for model in self.platform.models():
            assert self.platform.indexed(model) == desired == self.platform.expected()
        return dict(self.done) | {"documents": len(desired), "settled after": round(taken, 1)}

    def _harm_until(self, end: float) -> None:
        while time.monotonic() < end:
            self._harm_once()
            time.sleep(self.random.uniform(0.1, 1.5))  # the soak's own pace

    def _harm_once(self, *, faults: bool = True) -> None:
        self._change()
        if faults and time.monotonic() > self._fault_at:
            self._harm()
            self._fault_at = time.monotonic() + self.random.uniform(0.3, 1.7) * FAULT_EVERY

    def _life(self) -> Iterator[str]:
        """Build a model, promote it and roll back; yield what is awaited."""
        platform = self.platform
        while (first := platform.live()) is None:
            yield "the first model to be live"
        platform.register(BUILT)
        while not platform.is_filled(BUILT):
            yield f"{BUILT} to be filled"
        promotion = {"ops": {Asset.LIVE_ALIAS: {"config": {"model": BUILT}}}}
        for job, config, live in ((Job.PROMOTE, promotion, BUILT), (Job.ROLLBACK, {}, first)):
            while platform.live() != live:  # a run may be killed, or refused
                run = platform.instance.get_run_by_id(platform.launch(job, config))
                while run is not None and not run.is_finished:
                    yield f"{job} to end"
                    run = platform.instance.get_run_by_id(run.run_id)
                self.done[job] += 1

    def _change(self) -> None:
        changes: list[Callable[[], None]] = [self._add, self._edit, self._edit, self._edit]
        if len(self._texts) > 10:
            changes += [self._delete, self._rename, self._touch]
        change = self.random.choice(changes)
        change()
        self.done[change.__name__.lstrip("_")] += 1

    def _harm(self) -> None:
        harm = self.random.choice(
            [self._kill_run, self._kill_run, self._kill_milvus, self._kill_daemon, self._refuse]
        )
        harm()
        self.done[harm.__name__.lstrip("_")] += 1

    def _put(self, name: str, text: str) -> None:
        self._texts[name] = text
        self.platform.put(name, text)

    def _any(self) -> str:
        return self.random.choice(sorted(self._texts))

    def _add(self) -> None:
        self._number += 1
        name = f"{self.random.choice('abc')}/{self._number}.md"
        self._put(name, document(name, sections=self.random.randint(0, 5)))

    def _edit(self) -> None:
        name = self._any()
        parts = self._texts[name].split("\n\n")
        parts[self.random.randrange(len(parts))] = paragraph(self.random.random(), 20)
        self._put(name, "\n\n".join(parts))

    def _delete(self) -> None:
        name = self._any()
        del self._texts[name]
        self.platform.delete(name)

    def _rename(self) -> None:
        name = self._any()
        self._number += 1
        self._put(f"renamed/{self._number}.md", self._texts[name])
        del self._texts[name]
        self.platform.delete(name)

    def _touch(self) -> None:
        self.platform.touch(self._any())

    def _kill_run(self) -> None:
        started = [r for r in self.platform.unfinished_runs() if r.status.value == "STARTED"]
        standing = self.platform.standing_run()
        if runs := [*started, *filter(None, [standing])]:
            run = self.random.choice(runs)
            self.platform.signal_run(run, signal.SIGKILL)
            self.done["standing runs killed" if run is standing else "runs killed"] += 1

    def _kill_milvus(self) -> None:
        self.platform.milvus.kill()
        time.sleep(self.random.uniform(0, 3))  # how long it is down
        self.platform.milvus.start()

    def _kill_daemon(self) -> None:
        self.platform.kill("daemon")
        self.platform.start("daemon")

    def _refuse(self) -> None:
        self.platform.embeddings.refusal = self.random.choice([429, 503])
        time.sleep(REFUSED_FOR)
        self.platform.embeddings.refusal = None
