"""A busy development list: patches, and what people say of them; nothing in it is news of ours."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_WORDS: Final = tuple(
    f"{first}{second}"
    for first in "bdfgklmnprst"
    for second in (
        "a",
        "ado",
        "ek",
        "ember",
        "ing",
        "ist",
        "olar",
        "ound",
        "ulm",
        "y",
    )
)
_LIST: Final = "devel.lists.example.org"


def mbox(path: Path, numbers: Iterable[int]) -> None:
    """Write the mails with *numbers* into an mbox in *path*: always the same ones."""
    with path.open("wb") as file:
        for number in numbers:
            when = f"Nov {1 + number % 28:2} {number % 24:02}:{number % 60:02}:07 2023"
            file.write(f"From dev{number % 300}@example.org Mon {when}\n".encode())
            file.write(mail(number))
            file.write(b"\n")


def mail(number: int) -> bytes:
    """Return mail *number* of the list, as an archive keeps it."""
    chance = random.Random(number)  # noqa: S311 - no secret
    by = f"dev{number % 300}@example.org"
    date = f"{1 + number % 28} Nov 2023 {number % 24:02}:{number % 60:02}:07 +0100"
    others = [f"Person {n} <p{n}@example.org>" for n in range(chance.randrange(1, 9))]
    before = [f"<{number - n}.devel@example.org>" for n in range(1, chance.randrange(2, 7))]
    headers = (
        f"Return-Path: <devel-bounces+archive=example.net@{_LIST}>",
        f"Received: from {_LIST} ({_LIST} [192.0.2.7])",
        f"\tby mx.example.net (Postfix) with ESMTPS id {chance.getrandbits(40):X}",
        f"\tfor <archive@example.net>; {date}",
        f"Received: from mail.example.com (mail.example.com [198.51.100.4]) by {_LIST};",
        f"\t{date}",
        "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.org; s=k;",
        f"\th=from:to:subject; bh={chance.getrandbits(240):x};",
        f"\tb={chance.getrandbits(900):x}",
        f"From: Developer {number % 300} <{by}>",
        f"To: devel@{_LIST.removeprefix('devel.')}",
        f"Cc: {', '.join(others)}",
        f"Subject: Re: [PATCH v{number % 7} {number % 20}/20] {_said(chance, 6)}",
        f"Date: {date}",
        f"Message-ID: <{number}.devel@example.org>",
        f"In-Reply-To: {before[0]}",
        f"References: {' '.join(before)}",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=UTF-8",
        "Content-Transfer-Encoding: 7bit",
        "Precedence: list",
        f"List-Id: Development <{_LIST}>",
        f"Sender: devel-bounces@{_LIST}",
    )
    lines = [_said(chance, chance.randrange(3, 11)) for _ in range(chance.randrange(10, 70))]
    quoted = [f"> {line}" if chance.random() < _QUOTED else line for line in lines]
    return "\n".join([*headers, "", *quoted, ""]).encode()


_QUOTED: Final = 0.4


def _said(chance: random.Random, count: int) -> str:
    return " ".join(chance.choices(_WORDS, k=count))
