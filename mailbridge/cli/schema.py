"""`mailbridge schema`: the form of an event's data, for programs."""

from __future__ import annotations

import argparse

SUMMARY = "Print the JSON Schema of a tag"
GROUP = "understand a mail"
EXAMPLE = "mailbridge schema bug-closed"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "tags",
        nargs="*",
        metavar="TAG",
        help="whole, or without its namespace; without any: all, in one object by tag",
    )


def run(arguments: argparse.Namespace) -> int:
    import difflib
    import json

    from mailbridge.bridge import own
    from mailbridge.cli._gateway import site_rules
    from mailbridge.errors import UsageError
    from mailbridge.event import NAMESPACE, whole_tag
    from mailbridge.payloads import schema

    known = own.payloads() | site_rules(arguments).own
    if not arguments.tags:
        every = {whole_tag(name, NAMESPACE): schema(known[name]) for name in sorted(known)}
        print(json.dumps(every, indent=2))
        return 0
    for tag in arguments.tags:
        name = tag if tag in known else tag.rpartition(".")[2]
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "'mailbridge kinds' lists them"
            raise UsageError(f"{tag[:80]!r}: no tag of ours; {hint}")
        print(json.dumps(schema(known[name]), indent=2))
    return 0
