"""What it costs per day to keep an index in sync with a source, and how fresh it is, by policy.

- *Streaming*: each document gets a run of its own, immediately.
- *Batch*: everything that has arrived is loaded a few times per day.
- *Hybrid*, what this platform does: single documents and small uploads are streamed, large uploads
  are loaded in bulk. A standing run streams, or stream runs do.

In other runs, a document passes through two stages. On a CPU pod a run starts and parses it. Then a
GPU embeds it: stream runs share GPU pods that stay up for a while (`gpu_pool`), a bulk run has its
own pod from cold start to end. CPU pods and the pods of bulk runs are available on request, so bulk
runs never wait for each other (M/G/∞): they cost their number times the cost of one. The standing
run has one pod for all of its work (`_standing`). Writing to Milvus is taken to need no time.

The costs of one policy for one case belong here; comparisons between cases belong in `sweeps`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import ceil, exp, inf, sqrt

from rag_assets.core.costs.gpu_pool import Arrivals, Delay, Pod, quantile
from rag_assets.core.costs.inputs import Case

DAY, HOUR = 86_400, 3_600
STAGES = 2
UNIFORM = sqrt(12)  # width of a uniform distribution divided by its standard deviation


class Policy(StrEnum):
    """How documents get into the index."""

    STREAMING = "streaming"
    HYBRID = "hybrid"
    BATCH = "batch"


class Kind(StrEnum):
    """How a document arrived."""

    SINGLE = "single updates"
    UPLOAD = "uploads"


Delays = list[tuple[Kind, Delay]]


@dataclass(frozen=True, slots=True)
class Freshness:
    """Seconds from a document's change until queries can find it."""

    mean: float
    p50: float
    p95: float

    @classmethod
    def of(cls, delays: Sequence[Delay]) -> "Freshness":
        """Summarise weighted delays."""
        weight = sum(delay.weight for delay in delays)
        mean = sum(delay.weight * delay.mean for delay in delays) / weight
        return cls(mean, quantile(delays, 0.5), quantile(delays, 0.95))


@dataclass(frozen=True, slots=True)
class Costs:
    """What a policy costs per day.

    Attributes:
        policy: The policy.
        documents: Documents indexed.
        runs: Runs of both stages, and standing runs.
        gpu_hours: Billed GPU hours: starting, working, idle.
        gpu_busy_hours: The part of them spent embedding.
        gpu_starts: Cold starts of GPU pods.
        gpu_pods: Maximum GPU pods that stream runs share at once.
        cpu_hours: Billed CPU pod hours, without those of the standing stream run.
        standing_hours: Billed hours of the standing stream run's pod: starting, working, idle.
        standing_starts: Starts of the standing stream run.
        gets: Read requests to S3.
        puts: Write and list requests to S3.
        money: Dollars by what they are spent on.
        delays: Computes the documents' delays by kind, weighted by number of documents.
    """

    policy: Policy
    documents: float
    runs: float
    gpu_hours: float
    gpu_busy_hours: float
    gpu_starts: float
    gpu_pods: int
    cpu_hours: float
    standing_hours: float
    standing_starts: float
    gets: float
    puts: float
    money: dict[str, float]
    delays: Callable[[], Delays]

    @property
    def indexing(self) -> float:
        """Dollars per day that depend on the policy: all but Milvus, which serves under each."""
        return sum(self.money.values()) - self.money["Milvus"]

    @property
    def per_thousand(self) -> float:
        """Dollars to index 1,000 documents."""
        return self.indexing / self.documents * 1000

    @property
    def utilisation(self) -> float:
        """Share of GPU hours spent embedding; 0 without any."""
        return self.gpu_busy_hours / self.gpu_hours if self.gpu_hours else 0.0

    @property
    def freshness(self) -> dict[str, Freshness]:
        """Freshness of each kind of document, and of all."""
        found = self.delays()
        kinds = {str(k): [delay for kind, delay in found if kind is k] for k in Kind}
        kinds["all"] = [delay for _, delay in found]
        return {name: Freshness.of(delays) for name, delays in kinds.items() if delays}


@dataclass(frozen=True, slots=True)
class LaneUsage:
    """What one lane uses per day, in seconds, and the documents' delays by kind."""

    gpu: float = 0.0
    gpu_busy: float = 0.0
    gpu_starts: float = 0.0
    pods: int = 0
    cpu: float = 0.0
    standing: float = 0.0
    standing_starts: float = 0.0
    runs: float = 0.0
    shards: float = 0.0
    delays: Callable[[], Delays] = list


@dataclass(frozen=True, slots=True)
class Groups:
    """Documents that arrive together: `number` groups per day, `runs` runs of `size` documents."""

    kind: Kind
    number: float
    runs: float
    size: float

    @property
    def documents(self) -> float:
        """Documents per day."""
        return self.number * self.runs * self.size


def cost(policy: Policy, case: Case) -> Costs:
    """Return what a policy costs, and the freshness it achieves."""
    load, platform = case.workload, case.platform
    streamed = _standing if platform.stream_run else _stream
    singles = Groups(Kind.SINGLE, load.singles, 1, 1)
    if policy is Policy.BATCH:
        lanes = [_batches(case)]
    elif policy is Policy.STREAMING:
        lanes = _stream(case, [singles, Groups(Kind.UPLOAD, load.uploads, load.upload, 1)])
    elif load.upload <= platform.stream_documents:
        lanes = streamed(case, [singles, Groups(Kind.UPLOAD, load.uploads, 1, load.upload)])
    else:
        uploads = _bulk(case, load.uploads, load.upload, [(Kind.UPLOAD, 1.0)], 0.0)
        lanes = [*streamed(case, [singles]), uploads]
    return _sum(policy, case, lanes)


def ratio(case: Case) -> float:
    """Return the indexing cost of pure streaming divided by that of hybrid."""
    return cost(Policy.STREAMING, case).indexing / cost(Policy.HYBRID, case).indexing


def _stream(case: Case, groups: Iterable[Groups]) -> list[LaneUsage]:
    """Return what stream runs use."""
    timings, coming = case.timings, _coming(groups)
    arrivals = [_jobs(case, one, timings.gpu_run_start_s) for one in coming]
    pod, pods = Pod.shared(arrivals, timings.cold_start_s, timings.idle_s, case.platform.max_load)
    runs = sum(one.number * one.runs for one in coming)
    before = timings.notice_s + timings.run_start_s
    documents = sum(one.documents for one in coming)
    usage = LaneUsage(
        gpu=pods * (1 - pod.off) * DAY if coming else 0.0,
        gpu_busy=documents * case.workload.tokens_a_document / timings.stream_tokens_s,
        gpu_starts=pods * pod.starts * DAY,
        pods=pods if coming else 0,
        cpu=runs * timings.run_start_s + documents * timings.parse_s,
        runs=STAGES * runs,
        shards=sum(one.number * one.runs * _touched(case, one.size) for one in coming),
        delays=lambda: [
            (one.kind, _behind(wait, mine, one, before + one.size * timings.parse_s))
            for wait in pod.waits()
            for one, mine in zip(coming, pod.arrivals, strict=True)
        ],
    )
    return [usage]


def _standing(case: Case, groups: Iterable[Groups]) -> list[LaneUsage]:
    """Return what the standing run uses, and the bulk runs that take what is too much for it.

    It stays for `stream_idle_seconds`, T, after a change. If it needed no time to start and to
    work, it would be up exactly when a group has come within the last T seconds. None comes in T
    seconds with probability e^(-λT), as groups come as a Poisson process of rate λ, so

        P(up) = 1 - e^(-λT),

    and it would start λ e^(-λT) times per second: whenever a group finds it gone. With a start of
    c seconds and a load of u it is the pod of `gpu_pool`, whose state renews itself likewise:

        P(up) = 1 - (1 - u) / (e^(λT) + λc), starts per second: λ (1 - P(up)).

    The load is `stream_change_seconds` per document; there is one standing run, so it can take
    1 / `stream_change_seconds` documents per second. What comes beyond `max_load` of that is taken
    to go to bulk runs, each of `stream_documents`, the fewest that the lanes load in bulk.
    Embedding is another step of the run: it delays a document, but no other documents.
    """
    timings, platform, coming = case.timings, case.platform, _coming(groups)
    if not coming:
        return [LaneUsage(standing=0.0 if timings.stream_idle_seconds else DAY)]
    documents = sum(one.documents for one in coming)
    share = min(1.0, platform.max_load * DAY / (documents * timings.stream_change_seconds))
    taken = [replace(one, number=share * one.number) for one in coming]
    pod = Pod(
        tuple(
            Arrivals(one.number / DAY, 1, one.size * timings.stream_change_seconds, 0.0)
            for one in taken
        ),
        cold=timings.run_start_s + timings.gpu_run_start_s,
        idle=timings.stream_idle_seconds or inf,
    )
    usage = LaneUsage(
        standing=(1 - pod.off) * DAY,
        standing_starts=pod.starts * DAY,
        runs=pod.starts * DAY,
        shards=sum(one.number * _touched(case, one.size) for one in taken),
        delays=lambda: [
            (one.kind, _behind(wait, mine, one, timings.notice_s))
            for wait in pod.waits()
            for one in taken
            for mine in [_jobs(case, one, one.size * timings.stream_change_seconds)]
        ],
    )
    if share == 1:
        return [usage]
    kinds = [(one.kind, one.documents / documents) for one in coming]
    size = float(max(platform.stream_documents, 1))
    number = (1 - share) * documents / size
    return [usage, _bulk(case, number, size, kinds, DAY / number)]


def _coming(groups: Iterable[Groups]) -> list[Groups]:
    return [one for one in groups if one.number / DAY]  # underflows to 0 for the rarest


def _jobs(case: Case, groups: Groups, start: float) -> Arrivals:
    """Return runs as GPU jobs: each takes `start` and, by tokens, its documents' time."""
    each = case.workload.tokens_a_document / case.timings.stream_tokens_s
    return Arrivals(
        rate=groups.number / DAY,
        jobs=groups.runs,
        mean=start + groups.size * each,
        variance=groups.size * case.workload.size_variance * each**2,
    )


def _behind(wait: Delay, mine: Arrivals, groups: Groups, before: float) -> Delay:
    """Return a document's delay: what is before, the group's wait, its place in the group.

    If the group is a single run, the run's own time varies instead; it is taken as uniform.
    """
    varies = min(UNIFORM * sqrt(mine.variance), 2 * mine.mean)
    place = (mine.jobs - 1) * mine.mean
    return Delay(
        weight=wait.weight * groups.documents,
        base=before + wait.base + mine.mean - (0.0 if place else varies / 2),
        width=wait.width,
        other=place or varies,
    )


def _batches(case: Case) -> LaneUsage:
    """Return the batches' lane; a batch is not started if nothing has arrived for it."""
    load, batches = case.workload, case.platform.batches_a_day
    number = batches * (1 - exp(-(load.singles + load.uploads) / batches))
    kinds = [(Kind.SINGLE, 1 - load.bulk_share), (Kind.UPLOAD, load.bulk_share)]
    return _bulk(case, number, load.documents_a_day / number, kinds, DAY / batches)


def _bulk(
    case: Case, number: float, size: float, kinds: Iterable[tuple[Kind, float]], period: float
) -> LaneUsage:
    """Return what `number` loads per day use; documents wait up to `period` seconds for one."""
    timings, shards = case.timings, _touched(case, size)
    runs = ceil(shards / case.platform.shards_per_run)
    working = size * case.workload.tokens_a_document / timings.bulk_tokens_s
    starting = timings.cold_start_s + timings.gpu_run_start_s
    parsing = timings.run_start_s + size / runs * timings.parse_s
    before = timings.notice_s + parsing + starting
    return LaneUsage(
        gpu=number * (runs * starting + working),
        gpu_busy=number * working,
        gpu_starts=number * runs,
        cpu=number * runs * parsing,
        runs=STAGES * number * runs,
        shards=number * shards,
        delays=lambda: [
            (kind, Delay(number * size * share, before, working / runs, period))
            for kind, share in kinds
            if share
        ],
    )


def _touched(case: Case, documents: float) -> float:
    """Return the mean number of shards that this many documents are hashed onto."""
    shards = case.platform.shards
    return float(shards * (1 - (1 - 1 / shards) ** documents))


def _sum(policy: Policy, case: Case, lanes: Sequence[LaneUsage]) -> Costs:
    prices, platform = case.prices, case.platform
    gpu, cpu, standing = (
        sum(getattr(lane, name) for lane in lanes) / HOUR for name in ("gpu", "cpu", "standing")
    )
    shards = sum(lane.shards for lane in lanes)
    gets = shards * platform.shard_gets + case.workload.documents_a_day
    puts = shards * platform.shard_puts
    return Costs(
        policy=policy,
        documents=case.workload.documents_a_day,
        runs=sum(lane.runs for lane in lanes),
        gpu_hours=gpu,
        gpu_busy_hours=sum(lane.gpu_busy for lane in lanes) / HOUR,
        gpu_starts=sum(lane.gpu_starts for lane in lanes),
        gpu_pods=sum(lane.pods for lane in lanes),
        cpu_hours=cpu,
        standing_hours=standing,
        standing_starts=sum(lane.standing_starts for lane in lanes),
        gets=gets,
        puts=puts,
        money={
            "GPU": gpu * prices.gpu_hour,
            "CPU": cpu * prices.cpu_hour,
            "stream run": standing * prices.stream_pod_hour,
            "S3": (gets * prices.get_requests + puts * prices.put_requests) / 1000,
            "Milvus": platform.replicas * 24 * prices.milvus_hour,
        },
        delays=lambda: [delay for lane in lanes for delay in lane.delays()],
    )
