"""The figures of a service in Prometheus' text format (its "Exposition formats", version 0.0.4)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from mailbridge.health.facts import BridgeFacts, Canary, RelayFacts, TargetFacts
from mailbridge.health.state import Health

CONTENT: Final = "text/plain; version=0.0.4; charset=utf-8"

Sample = tuple[Mapping[str, str], float]
Family = tuple[str, str, str, Iterable[Sample]]
"""Name without `mailbridge_`, type, what it is, samples."""

NONE: Final[Mapping[str, str]] = {}


def text(health: Health) -> str:
    """Return all figures of *health* as they are now."""
    families = list(_always(health))
    if health.bridge:
        families += _bridge(health.bridge, health.now())
    if health.relay:
        families += _relay(health.relay)
    lines: list[str] = []
    for name, kind, what, samples in families:
        lines += [f"# HELP mailbridge_{name} {what}", f"# TYPE mailbridge_{name} {kind}"]
        lines += [f"mailbridge_{name}{_labels(labels)} {_number(n)}" for labels, n in samples]
    return "\n".join(lines) + "\n"


def _always(health: Health) -> Iterator[Family]:
    unready = health.unready()
    yield (
        "ready",
        "gauge",
        "1 if mail becomes events, as /ready says.",
        [(NONE, float(not unready))],
    )
    facts = health.bridge or health.relay
    if facts:
        info = {"version": facts.version, "entity": facts.entity}
        yield "info", "gauge", "Always 1; which version this is, and who signs.", [(info, 1)]
        began = "When this service was started, Unix time."
        yield "start_time_seconds", "gauge", began, [(NONE, facts.started)]


def _bridge(facts: BridgeFacts, now: float) -> Iterator[Family]:
    verdicts = [
        ({"source": v.source, "verdict": v.verdict, "code": v.code}, float(v.count))
        for v in facts.verdicts
    ]
    seen: dict[str, float] = {}
    for verdict in facts.verdicts:
        seen[verdict.source] = seen.get(verdict.source, 0) + verdict.count
    yield (
        "mails_seen_total",
        "counter",
        "Mails that have a verdict, ever.",
        [({"source": source}, count) for source, count in seen.items()],
    )
    # A verdict may be taken back (quarantine retry), so it is no counter.
    yield "mails", "gauge", "Mails by their verdict and its reason.", verdicts
    yield (
        "mails_waiting",
        "gauge",
        "Mails that are known to wait in a Maildir.",
        [({"maildir": place.path}, place.backlog) for place in facts.places],
    )
    yield (
        "maildir_trouble",
        "gauge",
        "1 if a Maildir cannot be looked into.",
        [({"maildir": place.path}, float(bool(place.trouble))) for place in facts.places],
    )
    yield (
        "maildir_stranded",
        "gauge",
        "Files that a broken delivery left in a Maildir's tmp.",
        [({"maildir": place.path}, place.stranded) for place in facts.places],
    )
    yield "quarantined", "gauge", "Mails in quarantine.", [(NONE, facts.quarantined)]
    yield "events_total", "counter", "Events in the feed.", [({"feed": facts.feed}, facts.events)]
    yield (
        "watch_inotify",
        "gauge",
        "1 if the kernel tells of new mail, 0 if the Maildirs are polled.",
        [(NONE, float(facts.watch == "inotify"))],
    )
    scan = "How long the last look through all Maildirs took."
    yield "scan_seconds", "gauge", scan, [(NONE, facts.scan_seconds)]
    yield "disk_free_bytes", "gauge", "Room on the disk of the state.", [(NONE, facts.disk_free)]
    full = "1 if no mail is taken in until there is room."
    yield "disk_full", "gauge", full, [(NONE, float(facts.disk_full))]
    yield "alarms", "gauge", "What an operator should look after.", [(NONE, len(facts.alarms))]
    yield (
        "source_silent",
        "gauge",
        "1 if a source has said nothing for longer than it should.",
        [({"source": source.name}, float(source.silent)) for source in facts.sources],
    )
    yield (
        "source_heard_seconds",
        "gauge",
        "Seconds since the last mail of a source that should speak.",
        [({"source": source.name}, max(0.0, now - source.heard)) for source in facts.sources],
    )
    yield (
        "list_missing_total",
        "counter",
        "Mails that a list numbered and that never came.",
        [({"list": entry.list_id}, entry.missing) for entry in facts.lists],
    )
    yield from _targets(facts.targets, now)
    canaries = [({"through": "maildir"}, facts.canary), *_canaries(facts.targets)]
    yield (
        "canary_age_seconds",
        "gauge",
        "Seconds since a canary last came back: through the Maildir, through a relay.",
        [
            (labels, max(0.0, now - (canary.back if canary else facts.started)))
            for labels, canary in canaries
        ],
    )
    yield (
        "canary_seconds",
        "gauge",
        "How long the last canary was on its way.",
        [(labels, canary.took) for labels, canary in canaries if canary],
    )


def _targets(targets: Iterable[TargetFacts], now: float) -> Iterator[Family]:
    named = [({"target": target.name}, target) for target in targets]
    yield (
        "target_trouble",
        "gauge",
        "1 if a target does not take our events.",
        [(labels, float(target.trouble)) for labels, target in named],
    )
    yield (
        "events_waiting",
        "gauge",
        "Events that a target has not acknowledged.",
        [(labels, target.waiting) for labels, target in named],
    )
    yield (
        "oldest_waiting_seconds",
        "gauge",
        "Age of the oldest of them; 0 if there is none.",
        [
            (labels, max(0.0, now - target.oldest) if target.oldest else 0.0)
            for labels, target in named
        ],
    )
    yield (
        "events_resent_total",
        "counter",
        "Events that went out again because no answer came.",
        [(labels, target.resent) for labels, target in named],
    )


def _canaries(targets: Iterable[TargetFacts]) -> Iterator[tuple[Mapping[str, str], Canary | None]]:
    for target in targets:
        if target.echoes:
            yield {"through": target.name}, target.canary


def _relay(facts: RelayFacts) -> Iterator[Family]:
    yield (
        "relay_submissions_total",
        "counter",
        "Events that sources gave, by what became of them.",
        [({"status": status}, count) for status, count in sorted(facts.submissions.items())],
    )
    yield "relay_events_total", "counter", "Events in the journal.", [(NONE, facts.events)]
    behind = "Events that are journaled and did not go out on PUB yet."
    yield "relay_unpublished", "gauge", behind, [(NONE, facts.events - facts.published)]
    yield "relay_readers", "gauge", "Readers that wait for news.", [(NONE, facts.readers)]
    free = "Room on the disk of the journal."
    yield "relay_disk_free_bytes", "gauge", free, [(NONE, facts.disk_free)]
    yield (
        "relay_feed_events_total",
        "counter",
        "The newest number of a feed.",
        [({"feed": feed}, seq) for feed, seq in facts.feeds.items()],
    )
    yield (
        "relay_feed_missing",
        "gauge",
        "By how many events the journal is behind what a source says it has.",
        [({"feed": feed}, count) for feed, count in facts.missing.items()],
    )
    yield (
        "relay_feed_contradicted",
        "gauge",
        "1 if a feed is not served: a reader holds something else of it.",
        [({"feed": feed}, float(feed in facts.contradicted)) for feed in facts.feeds],
    )


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{key}="{_quoted(value)}"' for key, value in labels.items()) + "}"


def _quoted(value: str) -> str:
    # (A path may hold bytes that are no UTF-8.)
    clean = value.encode("utf-8", "backslashreplace").decode()
    return clean.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
