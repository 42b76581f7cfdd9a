"""What a service says of itself: facts, their file, and the port that gives them out."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import msgspec
import pytest

from mailbridge.bridge.report import SOON, Reporter
from mailbridge.errors import ConfigError, TryAgain
from mailbridge.health import (
    BridgeFacts,
    Canary,
    Health,
    ListFacts,
    Live,
    PlaceFacts,
    RelayFacts,
    SourceFacts,
    TargetFacts,
    VerdictFacts,
    prometheus,
    told_by,
)
from mailbridge.health.http import MAX_REQUEST, MOST, Server
from mailbridge.health.live import EVERY, STUCK, process
from mailbridge.health.state import LOST
from tests.daemons import LOOPBACK, Daemon, make_maildir, put, upload

START: Final = 1_700_000_000.0

BRIDGE: Final = BridgeFacts(
    entity="mailbridge.lists.example.org",
    feed="mailbridge.lists.example.org/20261120T120000Z",
    version="0.1.0",
    started=START,
    process=process(),
    time=START + 10,
    ready=True,
    status="no mail waits; all received",
    watch="inotify",
    watch_reason="",
    scan_seconds=0.004,
    disk_free=10**9,
    disk_full=False,
    events=3,
    quarantined=1,
    alarms=("silence from changes",),
    places=(PlaceFacts(path='/var/mail/"x"\\y\n', sources=("changes",), backlog=4, stranded=1),),
    sources=(SourceFacts(name="changes", expected="24h", heard=START - 90_000, silent=True),),
    lists=(ListFacts(list_id="changes.lists.example.org", newest=43, waiting=1, missing=7),),
    verdicts=(
        VerdictFacts(source="changes", verdict="events", code="", count=3),
        VerdictFacts(source="changes", verdict="ignored", code="not-ours", count=5),
    ),
    targets=(
        TargetFacts(
            name="tcp://127.0.0.1:5581",
            status="2 events on the way",
            waiting=2,
            oldest=START + 5,
            resent=1,
            canary=Canary(back=START + 9, took=0.25),
            echoes=True,
        ),
        TargetFacts(name="lighthouse tcp://127.0.0.1:5571", status="all received"),
    ),
    canary=Canary(back=START + 8, took=0.125),
)

RELAY: Final = RelayFacts(
    entity="relay.lists.example.org",
    version="0.1.0",
    started=START,
    process=process(),
    time=START + 10,
    submit="tcp://127.0.0.1:5581",
    publish="tcp://127.0.0.1:5582",
    read="tcp://127.0.0.1:5583",
    events=9,
    published=8,
    disk_free=10**9,
    readers=2,
    submissions={"stored": 9, "held": 1},
    feeds={BRIDGE.feed: 9},
    missing={BRIDGE.feed: 0},
    contradicted=(BRIDGE.feed,),
)


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def unix(self) -> float:
        return START + 10 + self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> Health:
    told = Health(clock=clock.monotonic, now=clock.unix)
    told.bridge = BRIDGE
    told.turned("bridge")
    return told


# -- live and ready --------------------------------------------------------------------------------


def test_nothing_is_ready_before_it_began(clock: Clock) -> None:
    told = Health(clock=clock.monotonic, now=clock.unix)
    assert told.unready() == ["starting"]
    told.turned("relay")
    assert told.unready() == ["starting"]
    told.relay = RELAY
    assert told.unready() == []


def test_a_bridge_whose_mail_becomes_events_is_ready_whatever_else_is_to_be_looked_after(
    health: Health,
) -> None:
    assert (health.dead(), health.unready()) == ([], [])


_TARGET: Final = BRIDGE.targets[0]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"ready": False}, "starting"),
        ({"disk_full": True}, "the disk is full"),
        ({"places": (PlaceFacts(path="/m", sources=(), trouble="gone"),)}, "/m: gone"),
        (
            {"targets": (msgspec.structs.replace(_TARGET, trouble=True, status="x is away"),)},
            "x is away",
        ),
    ],
)
def test_what_keeps_mail_from_becoming_events_is_told(
    health: Health, change: dict[str, Any], why: str
) -> None:
    health.bridge = msgspec.structs.replace(BRIDGE, **change)

    assert health.unready() == [why]
    assert health.dead() == []


def test_a_canary_that_does_not_come_back_is_told(health: Health, clock: Clock) -> None:
    clock.seconds = LOST - 3
    health.turned("bridge")
    assert health.unready() == []
    clock.seconds = LOST + 1
    health.turned("bridge")
    (why,) = health.unready()
    assert why == f"a canary in the spool was not found for {int(LOST) + 3} s"
    found = Canary(back=clock.unix(), took=1)
    health.bridge = msgspec.structs.replace(BRIDGE, canary=found)
    (why,) = health.unready()
    assert why == f"no canary came back from tcp://127.0.0.1:5581 for {int(LOST) + 2} s"


def test_a_loop_that_does_nothing_any_more_is_dead(health: Health, clock: Clock) -> None:
    health.turned("relay")
    clock.seconds = STUCK + 1
    health.turned("relay")

    assert health.dead() == [f"the bridge has done nothing for {int(STUCK) + 1} s"]
    assert health.unready()


# -- figures ---------------------------------------------------------------------------------------


def figures(text: str) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in re.findall(r"(?m)^(mailbridge_\S+(?:\{.*\})?) (\S+)$", text)
    }


def test_the_figures_are_those_of_the_facts(health: Health, clock: Clock) -> None:
    health.relay = RELAY
    told = figures(prometheus.text(health))

    target = '{target="tcp://127.0.0.1:5581"}'
    assert told["mailbridge_ready"] == 1
    assert told['mailbridge_mails{source="changes",verdict="ignored",code="not-ours"}'] == 5
    assert told['mailbridge_mails_seen_total{source="changes"}'] == 8
    assert told[f"mailbridge_oldest_waiting_seconds{target}"] == 5
    assert told['mailbridge_source_silent{source="changes"}'] == 1
    assert told['mailbridge_list_missing_total{list="changes.lists.example.org"}'] == 7
    assert told['mailbridge_canary_age_seconds{through="maildir"}'] == 2
    assert told['mailbridge_canary_seconds{through="tcp://127.0.0.1:5581"}'] == 0.25
    assert told["mailbridge_relay_unpublished"] == 1
    clock.seconds = 60
    told = figures(prometheus.text(health))
    assert told['mailbridge_canary_age_seconds{through="maildir"}'] == 62


@pytest.mark.needs_program("promtool")
def test_prometheus_understands_the_figures_and_has_nothing_to_say_about_them(
    health: Health,
) -> None:
    health.relay = RELAY

    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=prometheus.text(health),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout) == (0, "")


# -- the file --------------------------------------------------------------------------------------


def test_what_a_service_says_is_found_by_others_and_ours_alone(tmp_path: Path) -> None:
    live = Live(tmp_path, "bridge")
    live.tell(BRIDGE)
    path = tmp_path / "bridge.status.json"
    told = told_by(tmp_path, "bridge", now=START + 12)

    assert told is not None
    assert (told.facts, told.age, told.runs, told.hangs) == (BRIDGE, 2, True, False)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    assert told_by(tmp_path, "relay") is None
    live.close()
    assert told_by(tmp_path, "bridge") is None


def test_one_that_died_runs_no_more_and_one_that_says_nothing_hangs(tmp_path: Path) -> None:
    live = Live(tmp_path, "bridge")
    live.tell(BRIDGE)
    told = told_by(tmp_path, "bridge", now=START + 10 + STUCK + 1)
    assert told
    assert told.hangs
    # The same number, given to another process since.
    number, began = process()
    live.tell(msgspec.structs.replace(BRIDGE, process=(number, began - 1)))
    told = told_by(tmp_path, "bridge")
    assert told
    assert (told.runs, told.hangs) == (False, False)


@pytest.mark.parametrize("raw", [b"", b"{}", b"[1]", b"\xff", b'{"entity": 7}'])
def test_a_file_of_another_version_tells_nothing(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "bridge.status.json").write_bytes(raw)

    assert told_by(tmp_path, "bridge") is None


def test_a_disk_that_does_not_take_it_is_told_once_and_stops_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    live = Live(tmp_path / "gone", "bridge")
    live.tell(BRIDGE)
    live.tell(BRIDGE)
    live.close()

    assert caplog.text.count("cannot be written") == 1


# -- the port --------------------------------------------------------------------------------------


@pytest.fixture
def server(health: Health) -> Iterator[Server]:
    found = Server(health, "127.0.0.1:0")
    found.start()
    yield found
    found.close()


def _get(server: Server, path: str, method: str = "GET") -> tuple[int, str]:
    request = urllib.request.Request(f"http://{server.address}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - ours
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_the_port_answers_three_questions(server: Server, health: Health, clock: Clock) -> None:
    assert _get(server, "/live") == (200, "live\n")
    assert _get(server, "/ready") == (200, "ready\n")
    assert _get(server, "/metrics?x=1")[1] == prometheus.text(health)
    assert _get(server, "/metrics", "HEAD") == (200, "")
    health.bridge = msgspec.structs.replace(BRIDGE, disk_full=True)
    assert _get(server, "/ready") == (503, "the disk is full\n")
    assert _get(server, "/live")[0] == 200
    clock.seconds = STUCK + 1
    assert _get(server, "/live")[0] == 503
    assert _get(server, "/etc/passwd")[0] == 404
    assert _get(server, "/metrics", "POST")[0] == 400


@pytest.mark.parametrize(
    "said",
    [
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /metrics\r\n\r\n",
        b"\x00" * 100 + b"\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_no_question_gets_a_plain_answer(server: Server, said: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as guest:
        guest.sendall(said)
        assert guest.recv(100).startswith(b"HTTP/1.0 400 ")


def test_an_endless_question_gets_none(server: Server) -> None:
    port = ("127.0.0.1", server.port)
    with socket.create_connection(port, timeout=30) as guest, contextlib.suppress(OSError):
        guest.sendall(b"x" * 10 * MAX_REQUEST)
        assert guest.recv(1) == b""
    assert _get(server, "/live")[0] == 200


def test_those_who_connect_and_say_nothing_keep_nobody_out(server: Server) -> None:
    with contextlib.ExitStack() as stack:
        silent = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=30))
            for _ in range(3 * MOST)
        ]
        for guest in silent[::2]:
            with contextlib.suppress(OSError):
                guest.sendall(b"GET /met")
        assert _get(server, "/live")[0] == 200
        # The first of them made room.
        assert silent[1].recv(1) == b""


def test_a_port_in_use_is_told_and_so_is_what_is_none(server: Server, health: Health) -> None:
    with pytest.raises(TryAgain, match=r"health\.listen: 127\.0\.0\.1:\d+ is in use"):
        Server(health, server.address)
    for wrong in ("9464", "127.0.0.1", "127.0.0.1:99999", "x y:1", "192.0.2.1:0"):
        with pytest.raises(ConfigError, match=r"health\.listen: "):
            Server(health, wrong)


def test_nothing_is_left_open_of_a_port_that_was_closed(health: Health) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names alone
    server = Server(health, "127.0.0.1:0")
    server.start()
    _get(server, "/live")
    server.close()

    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


# -- the services ----------------------------------------------------------------------------------


def _until(server: str, path: str, wanted: str) -> str:
    """Ask until what is *wanted* is said, and return all that is."""
    while True:
        try:
            with urllib.request.urlopen(f"http://{server}{path}", timeout=30) as answer:
                said: str = answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                said = error.read().decode()
        if wanted in said:
            return said


def test_bridge_and_relay_in_one_process_are_told_on_one_port_and_in_the_state(
    tmp_path: Path,
) -> None:
    maildir, state = make_maildir(tmp_path / "Maildir"), tmp_path / "state"
    words = ("run", "--maildir", maildir, "--state", state, *LOOPBACK, "--existing", "emit")
    with Daemon(*words, "--health", "127.0.0.1:0") as daemon:
        port = daemon.ready()["health"]
        put(maildir, upload(1), "1.a")
        _until(port, "/ready", "ready")
        _until(port, "/metrics", 'mailbridge_canary_seconds{through="relay"}')
        told = _until(port, "/metrics", "mailbridge_events_total{feed=")
        while 'verdict="events"' not in told:
            told = _until(port, "/metrics", "mailbridge_relay_submissions_total")
        bridge, relay = told_by(state, "bridge"), told_by(state, "relay")
        assert bridge
        assert relay
        assert bridge.runs
        assert relay.runs
        assert bridge.facts.process[0] == daemon.pid
        assert daemon.stop() == 0

    assert figures(told)["mailbridge_ready"] == 1
    assert not list(state.glob("*.status.json"))


def test_a_relay_that_is_away_keeps_the_bridge_alive_and_not_ready(tmp_path: Path) -> None:
    maildir, state = make_maildir(tmp_path / "Maildir"), tmp_path / "state"
    where = ("--submit", "tcp://127.0.0.1:9", "--health", "127.0.0.1:0")
    with Daemon("bridge", "--maildir", maildir, "--state", state, *where) as daemon:
        port = daemon.ready()["health"]
        _until(port, "/ready", "tcp://127.0.0.1:9 does not answer; 0 events wait")
        _until(port, "/live", "live")
        _until(port, "/metrics", 'mailbridge_target_trouble{target="tcp://127.0.0.1:9"} 1')
        assert daemon.stop() == 0


def test_a_health_port_in_use_is_told_and_no_mail_waits_for_it(
    tmp_path: Path, server: Server
) -> None:
    settings = tmp_path / "mailbridge.toml"
    settings.write_text(f'state = "{tmp_path / "state"}"\n[health]\nrelay = "{server.address}"\n')
    with Daemon("-c", settings, "relay", *LOOPBACK) as daemon:
        assert "health" not in daemon.ready()
        daemon.says(rf"health: {server.address} is in use; .*; we go on without")
        assert daemon.stop() == 0


# -- the alerts ------------------------------------------------------------------------------------

ALERTS: Final = Path(__file__).parent.parent / "systemd" / "mailbridge.alerts.yml"

FIRING: Final = """
rule_files: [{alerts}]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - {{series: 'mailbridge_ready{{instance="a"}}', values: '1 0x30'}}
      - series: 'mailbridge_canary_age_seconds{{instance="a",through="relay"}}'
        values: '5 5 400x30'
      - {{series: 'mailbridge_source_silent{{instance="a",source="changes"}}', values: '0 1x30'}}
      - {{series: 'mailbridge_list_missing_total{{instance="a",list="x"}}', values: '0 0 0 2x30'}}
    alert_rule_test:
      - eval_time: 5m
        alertname: MailbridgeNotReady
      - eval_time: 20m
        alertname: MailbridgeNotReady
        exp_alerts:
          - exp_labels: {{severity: page, instance: a}}
            exp_annotations:
              summary: "a: mail does not become events"
              mend: "its /ready tells why; mailbridge doctor"
      - eval_time: 20m
        alertname: MailbridgeCanaryLost
        exp_alerts:
          - exp_labels: {{severity: page, instance: a, through: relay}}
            exp_annotations:
              summary: "a: no canary came through relay for 6m 40s"
              mend: "mailbridge status; mailbridge doctor --send-test ADDRESS"
      - eval_time: 20m
        alertname: MailbridgeListGap
        exp_alerts:
          - exp_labels: {{severity: ticket, instance: a, list: x}}
            exp_annotations:
              summary: "a: mails of x did not come"
              mend: "look for their numbers in its archive; mailbridge ingest takes them"
"""


@pytest.mark.needs_program("promtool")
def test_the_alerts_load_in_prometheus_and_go_off_when_they_should(tmp_path: Path) -> None:
    tests = tmp_path / "tests.yml"
    tests.write_text(FIRING.format(alerts=ALERTS))

    for words in (("check", "rules", ALERTS), ("test", "rules", tests)):
        done = subprocess.run(["promtool", *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_figure_that_an_alert_looks_at_is_told(health: Health) -> None:
    health.relay = RELAY
    told = set(re.findall(r"(?m)^# TYPE (\S+) ", prometheus.text(health)))
    asked = set(
        re.findall(r"mailbridge_\w+", "".join(re.findall(r"expr: (.*)", ALERTS.read_text())))
    )

    assert asked
    assert asked - told == set()


def test_what_changes_one_after_the_other_is_told_together_and_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(Live, "tell", lambda _, facts: told.append(facts))
    monkeypatch.setattr(Reporter, "_facts", lambda *words: words[-1])
    nothing: Any = None
    reporter = Reporter(
        SimpleNamespace(directory=tmp_path),  # type: ignore[arg-type]  # no more is asked of it
        (),
        (),
        attention=nothing,
        canaries=nothing,
        health=Health(),
    )

    assert reporter.turned(nothing, "ready", 100.0) == 100.0 + EVERY
    assert reporter.turned(nothing, "1 event on the way", 101.0) == 101.0 + SOON
    assert reporter.turned(nothing, "all received", 101.0 + SOON / 2) == 101.0 + SOON
    assert told == ["ready"]
    assert reporter.turned(nothing, "all received", 101.0 + SOON) == 101.0 + SOON + EVERY
    assert told == ["ready", "all received"]
    reporter.turned(nothing, "all received", 101.0 + SOON + EVERY)
    assert len(told) == 3
