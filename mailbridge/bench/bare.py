"""The bare library calls: what nobody could leave out, done with nothing around it."""

from __future__ import annotations

import email
import json
import sqlite3
import threading
from collections.abc import Sequence
from email.message import Message
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import Final

import mailparser
import zmq
from debian.deb822 import Changes
from nacl.signing import SigningKey

WINDOW: Final = 64

_BEGIN: Final = "-----BEGIN PGP SIGNED MESSAGE-----"
_END: Final = "-----BEGIN PGP SIGNATURE-----"

_TEXT: Final = "text/plain"
_OURS: Final = ("X-DAK", "X-Katie", "X-Debian", "X-Laniakea-Event", "X-Debian-PR-Message")

_KEY: Final = SigningKey(bytes(range(32)))


def headers(mails: Sequence[bytes]) -> None:
    """Parse the header of each mail, as every mail needs."""
    parser = BytesHeaderParser()
    for raw in mails:
        parser.parsebytes(raw)


def bodies(mails: Sequence[bytes]) -> list[str]:
    """Parse each mail with mail-parser, and return the .changes in them."""
    found = []
    for raw in mails:
        text = "\n".join(mailparser.parse_from_bytes(raw).text_plain)
        begin, end = text.find(_BEGIN), text.find(_END)
        if 0 <= begin < end:
            found.append(text[begin:end].partition("\n\n")[2])
    return found


def changes(paragraphs: Sequence[str]) -> None:
    """Parse each .changes with python-debian."""
    for paragraph in paragraphs:
        dict(Changes(paragraph))


def parsed(events: Sequence[bytes]) -> list[object]:
    """Read the JSON of each event."""
    return [json.loads(raw) for raw in events]


def script(mails: Sequence[bytes]) -> None:
    """Do what a script of a page does: `email`, `Changes`, JSON, PUB; nothing signed or kept."""
    with zmq.Context() as context, context.socket(zmq.PUB) as socket:
        socket.bind_to_random_port("tcp://127.0.0.1")
        for raw in mails:
            message = email.message_from_bytes(raw)
            if not any(name in message for name in _OURS):
                continue
            text = next((_text(p) for p in message.walk() if p.get_content_type() == _TEXT), "")
            begin = text.find(_BEGIN)
            fields = dict(Changes(text[begin:])) if begin >= 0 else {}
            told = {
                "subject": str(message["Subject"]),
                "from": str(message["From"]),
                "changes": {str(name): str(value) for name, value in fields.items()},
            }
            socket.send_multipart([b"mails.", json.dumps(told).encode()])


def _text(part: Message) -> str:
    payload = part.get_payload(decode=True)
    return payload.decode("utf-8", "replace") if isinstance(payload, bytes) else ""


def canonical(events: Sequence[object]) -> list[bytes]:
    """Write each event as canonical JSON."""
    return [
        json.dumps(event, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
        for event in events
    ]


def signed(preimages: Sequence[bytes]) -> list[bytes]:
    """Return a signature over each of *preimages*."""
    return [_KEY.sign(raw).signature for raw in preimages]


def verified(preimages: Sequence[bytes], signatures: Sequence[bytes]) -> None:
    """Check each signature."""
    key = _KEY.verify_key
    for raw, signature in zip(preimages, signatures, strict=True):
        key.verify(raw, signature)


def stored(path: Path, events: Sequence[bytes], *, batch: int, commits: int = 1) -> None:
    """Insert each event in an SQLite table, *batch* at once, with *commits* full fsyncs each."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("CREATE TABLE event (seq INTEGER PRIMARY KEY, uuid BLOB UNIQUE, raw BLOB)")
    db.execute("CREATE TABLE mark (n INTEGER)")
    for at in range(0, len(events), batch):
        rows = [
            (seq, seq.to_bytes(16, "big"), events[seq])
            for seq in range(at, min(at + batch, len(events)))
        ]
        for _ in range(commits - 1):
            db.execute("BEGIN IMMEDIATE")
            db.execute("INSERT INTO mark VALUES (1)")
            db.execute("COMMIT")
        db.execute("BEGIN IMMEDIATE")
        db.executemany("INSERT INTO event VALUES (?, ?, ?)", rows)
        db.execute("COMMIT")
    db.close()


def paged(path: Path, page: int) -> None:
    """Read what `stored` wrote, *page* events at a time."""
    db = sqlite3.connect(path)
    last = -1
    while rows := db.execute(
        "SELECT seq, raw FROM event WHERE seq > ? ORDER BY seq LIMIT ?", (last, page)
    ).fetchall():
        last = rows[-1][0]
    db.close()


def streamed(events: Sequence[bytes], page: int) -> None:
    """Send *events* over loopback, *page* of them in a message, each time when we are asked."""
    pages = [list(events[at : at + page]) for at in range(0, len(events), page)]
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        port = router.bind_to_random_port("tcp://127.0.0.1")

        def answer() -> None:
            for frames in pages:
                router.send_multipart([router.recv_multipart()[0], *frames])

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        with context.socket(zmq.DEALER) as dealer:
            dealer.connect(f"tcp://127.0.0.1:{port}")
            for _ in pages:
                dealer.send(b"more")
                dealer.recv_multipart()
        thread.join()


def carried(events: Sequence[bytes], *, window: int = WINDOW) -> None:
    """Send each event over loopback, and an answer back, at most *window* of them on the way."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        port = router.bind_to_random_port("tcp://127.0.0.1")

        def echo() -> None:
            for _ in events:
                peer, _, word = router.recv_multipart()
                router.send_multipart([peer, word])

        thread = threading.Thread(target=echo, daemon=True)
        thread.start()
        with context.socket(zmq.DEALER) as dealer:
            dealer.connect(f"tcp://127.0.0.1:{port}")
            in_flight(dealer, events, window)
        thread.join()


def in_flight(
    dealer: zmq.Socket[bytes], events: Sequence[bytes], window: int = WINDOW
) -> list[bytes]:
    """Send *events*, never more than *window* without an answer, and return the answers."""
    answers: list[bytes] = []
    sent = 0
    while len(answers) < len(events):
        while sent < len(events) and sent - len(answers) < window:
            dealer.send_multipart([events[sent], b"ack"])
            sent += 1
        answers.append(dealer.recv_multipart()[0])
    return answers
