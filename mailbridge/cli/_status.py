"""What `status` says to a person: a word in front, what it is about, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

Told = dict[str, Any]


def lines(told: Told) -> list[str]:
    """Return all that is *told*, in lines that no stranger's bytes can break."""
    from mailbridge.sinks.show import safe

    found = [f"{told['state']}: {'a bridge runs' if told['running'] else 'no bridge runs'}"]
    if told["bridge"]:
        found += _bridge(told["bridge"])
    if outbox := told.get("outbox"):
        found += _sources(outbox)
        found += _outbox(outbox, told["bridge"] or {})
    if told["relay"]:
        found += _relay(told["relay"])
    if journal := told.get("journal"):
        found += _journal(journal)
    return [safe(line) for line in found]


def _bridge(live: Told) -> Iterator[str]:
    yield f"bridge   {_alive(live)}"
    reason = f" ({live['watch_reason']})" if live["watch_reason"] else ""
    yield (
        f"         watches by {live['watch']}{reason}; a look takes {live['scan_seconds']:.3f} s;"
        f" {live['disk_free'] >> 20} MB free"
    )
    if live["disk_full"]:
        yield "         no mail is taken in until there is room"
    for alarm in live["alarms"]:
        yield f"ALARM    {alarm}"
    for place in live["places"]:
        waits = f"{place['backlog']} mails wait" if place["backlog"] else "no mail waits"
        yield f"maildir  {place['path']}: {place['trouble'] or waits}"
    for source in live["sources"]:
        word = "silent since" if source["silent"] else "heard last"
        yield (
            f"expects  {source['name']}: {word} {_when(source['heard'])},"
            f" a mail is expected every {source['expected']}"
        )
    for entry in live["lists"]:
        yield (
            f"list     {entry['list_id']}: number {entry['newest']}, {entry['waiting']} may come"
            f" late, {entry['missing']} never came"
        )
    if canary := live["canary"]:
        yield f"canary   found in the spool {_canary(canary)}"


def _alive(live: Told) -> str:
    if not live["runs"]:
        return f"ended without a word; it said last, {_age(live['age'])} ago: {live['status']}"
    how = "hangs: it said nothing for" if live["hangs"] else "runs since"
    when = _age(live["age"]) if live["hangs"] else _when(live["started"])
    return f"{how} {when}, mailbridge {live['version']}, {live['entity']}"


def _sources(outbox: Told) -> Iterator[str]:
    for name, counts in outbox["sources"].items():
        sums = [f"{n} {verdict}" for verdict, n in counts.items() if verdict != "seen"]
        yield f"source   {name}: {counts['seen']} mails seen = {' + '.join(sums)}"
        for verdict in counts:
            codes = [
                f"{one['count']} {one['code']}"
                for one in outbox["mails"]
                if (one["source"], one["verdict"]) == (name, verdict) and one["code"]
            ]
            if codes:
                yield f"         {verdict}: {', '.join(codes)}"
        if since := outbox["silent"].get(name):
            yield f"         silent since {since}"
        if any((m["source"], m["code"]) == (name, "digest") for m in outbox["mails"]):
            yield (f"         nothing can come of digests: subscribe {name!r} to individual mails")
    if outbox["quarantined"]:
        yield f"         {outbox['quarantined']} wait in 'mailbridge quarantine list'"


def _outbox(outbox: Told, live: Told) -> Iterator[str]:
    yield f"outbox   {outbox['events']} events in {outbox['feed']}"
    if outbox["stand_in_off"]:
        yield f"         nothing goes out under _lk.archive.*: {outbox['stand_in_off']}"
    now = {target["name"]: target for target in live.get("targets", ())}
    for name in sorted({*outbox["unacknowledged"], *now}):
        behind = outbox["unacknowledged"].get(name, outbox["events"])
        line = f"target   {name}: {behind} not acknowledged"
        if age := outbox["oldest"].get(name):
            line += f", the oldest for {_age(age)}"
        yield line
        if target := now.get(name):
            yield f"         {target['status']}"
            if target["canary"]:
                yield f"         a canary came back {_canary(target['canary'])}"


def _relay(live: Told) -> Iterator[str]:
    alive = _alive({**live, "status": f"{live['events']} events"})
    yield f"relay    {alive}"
    yield f"         submit={live['submit']} publish={live['publish']} read={live['read']}"
    came = ", ".join(f"{n} {status}" for status, n in sorted(live["submissions"].items()))
    came = came or "nothing"
    yield f"readers  {live['readers']} wait for news; submitted since its start: {came}"
    for feed, behind in live["missing"].items():
        if behind:
            yield f"         {behind} events of {feed} are announced, and not here yet"
    for alarm in live["alarms"]:
        yield f"ALARM    {alarm}"
    for feed in live["contradicted"]:
        yield f"ALARM    {feed} is not served: a reader holds something else of it"


def _journal(journal: Told) -> Iterator[str]:
    yield f"journal  {journal['events']} events"
    for feed, seq in journal["feeds"].items():
        yield f"         {seq} of {feed}"
        for first, last in journal["missing"].get(feed, ()):
            yield f"         of these {first} to {last} are missing, and nobody had them"
        for number in journal["forks"].get(feed, ()):
            yield f"         two events have its number {number}: the proof is kept"
    for kind in ("upstream", "peer"):
        for name, seen in journal[kind].items():
            how = "there" if seen["up"] else "not there"
            when = f"heard last {seen['seen']}" if seen["seen"] else "never heard"
            yield f"{kind:<8} {name}: {how}, {when}, {seen['events']} events new to us"


def _canary(canary: Told) -> str:
    return f"{_when(canary['back'])}, after {canary['took']:.3f} s"


def _when(unix: float) -> str:
    return datetime.fromtimestamp(unix, UTC).astimezone().isoformat(" ", "seconds")


_UNITS = ((86400, "days"), (3600, "hours"), (60, "minutes"))


def _age(seconds: float) -> str:
    for size, unit in _UNITS:
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} seconds"
