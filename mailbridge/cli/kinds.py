"""`mailbridge kinds`: what kinds of mail are understood, and the tags they give."""

from __future__ import annotations

import argparse

SUMMARY = "List the kinds of mail understood, each with its tags"
GROUP = "understand a mail"
EXAMPLE = "mailbridge kinds --json"

_UNASKED = {"on": "", "list": "unasked only by a list", "off": "only when switched on"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def run(arguments: argparse.Namespace) -> int:
    import json

    from mailbridge import kinds
    from mailbridge.bridge import own
    from mailbridge.cli._gateway import site_rules
    from mailbridge.event import NAMESPACE, whole_tag

    family = None
    for kind in (*kinds.kinds(), *site_rules(arguments).kinds):
        tags = {whole_tag(told.NAME, NAMESPACE): told.DEFAULT for told in kind.payloads}
        if arguments.json:
            told = [{"tag": tag, "default": on} for tag, on in tags.items()]
            facts = {"kind": kind.name, "family": kind.family.value, "summary": kind.summary}
            print(json.dumps(facts | {"attested": kind.attested, "tags": told}))
            continue
        if kind.family is not family:
            print(f"{kind.family.value}" if family is None else f"\n{kind.family.value}")
            family = kind.family
        print(f"  {kind.name}: {kind.summary}")
        print(f"      known from: {kind.attested}")
        for tag, on in tags.items():
            unasked = f"   ({_UNASKED[on]})" if _UNASKED[on] else ""
            print(f"      {tag}{unasked}")
    if not arguments.json:
        print("\nof no kind, by the bridge itself")
    for payload in own.PAYLOADS:
        tag, summary = f"{NAMESPACE}.{payload.NAME}", own.summary(payload)
        if arguments.json:
            nobody = dict.fromkeys(("kind", "family", "attested"))
            switch = {"tag": tag, "default": payload.DEFAULT}
            print(json.dumps({**nobody, "summary": summary, "tags": [switch]}))
        else:
            print(f"  {tag}: {summary}")
    if not arguments.json:
        print('\nA source switches a tag on with its last word, as: emit = ["bug-commented"]')
    return 0
