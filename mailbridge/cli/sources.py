"""`mailbridge sources`: the configured sources, as the bridge understands them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mailbridge.config import Source

SUMMARY = "List the configured sources and what each expects and requires"
GROUP = "understand a mail"
EXAMPLE = "mailbridge -c /etc/mailbridge/mailbridge.toml sources"

_BACKED = {
    "none": "none: anyone who can mail it makes events, each marked as unproved",
    "channel": "channel: your word that nothing but this list can reach it",
    "hop": "hop: our mail server took it from a host in hops",
    "authres": "authres: our mail server found good DKIM of a domain in dkim_domains",
    "dkim": "dkim: good DKIM of a domain in dkim_domains, checked here",
    "archive-signature": "archive-signature: signed with a key in archive_keyring",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def run(arguments: argparse.Namespace) -> int:
    import json
    import sys

    import msgspec

    from mailbridge import config
    from mailbridge.bridge.compose import check, switches
    from mailbridge.rules import load

    path = arguments.config or config.default_config()
    settings = config.load(path)
    found, rules = settings.source, load(settings.rules)
    check(found, rules)
    if not found:
        where = f"{path} names no source" if path else "no configuration file"
        print(f"{where}; without one: mailbridge run --maildir ~/Maildir", file=sys.stderr)
    for source in found:
        if arguments.json:
            print(json.dumps(msgspec.to_builtins(source) | {"tags": switches(source, rules)}))
        else:
            print("\n".join(_lines(source, switches(source, rules))))
    return 0


def _lines(source: Source, switches: Mapping[str, str]) -> list[str]:
    def those(switch: str) -> str:
        return ", ".join(name for name, on in sorted(switches.items()) if on == switch)

    facts = [
        ("maildir", source.maildir or "(any, and the pipe)"),
        ("lists", ", ".join(source.lists) or "any, and personal mail"),
        ("archive", source.archive or "(as each mail says)"),
        ("kinds", ", ".join(source.kinds) or "all"),
        ("emits", those("on")),
        ("by a list", those("list")),
        ("switched off", those("off")),
        ("requires", _BACKED.get(source.require, source.require)),
        ("signatures", ", ".join(source.keyrings)),
        ("expects", f"a mail every {source.expect_every}" if source.expect_every else ""),
        ("after", source.after),
        ("existing", {"skip": "skipped", "emit": "emitted"}[source.existing]),
        ("namespace", source.namespace),
        ("waits", f"{source.suppress_if_on_bus} for the bus" if source.suppress_if_on_bus else ""),
        ("stand-in", "uploads under _lk.archive.*" if source.stand_in else ""),
    ]
    return [source.name, *(f"  {name + ':':<14}{told}" for name, told in facts if told)]
