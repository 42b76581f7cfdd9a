"""`mailbridge key`: make, show, list and trust keys."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

SUMMARY = "Keys: new, show, list, trust"
GROUP = "keys, trust, proof"
EXAMPLE = "mailbridge key trust debexpo.example.org.key --tags 'org.example.mentors.*'"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="new|show|list|trust")

    def action(name: str, summary: str, example: str) -> argparse.ArgumentParser:
        return actions.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=f"example:\n  mailbridge key {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    new = action("new", "Make a key pair: ID.key_secret and ID.key", "new relay.example.org")
    new.add_argument("id", metavar="ID", help="the entity's name, as mailbridge.lists.example.org")
    new.add_argument("--dir", type=Path, help="where to (default: keys/ of the state)")
    new.add_argument("--name", default="", help="what people call it")
    show = action("show", "Show a public key and its fingerprint", "show relay.example.org")
    show.add_argument("key", metavar="ID|FILE", help="one of the state's keys, or a key file")
    list_ = action("list", "List our own keys and those that are trusted", "list --json")
    trust = action(
        "trust",
        "Let a key submit to this machine's relay, and believe what it signed",
        "trust debexpo.example.org.key --tags 'org.example.mentors.*'",
    )
    trust.add_argument("file", metavar="FILE", type=Path, help="its public key file")
    trust.add_argument(
        "--tags",
        nargs="+",
        metavar="PATTERN",
        help="what it may emit (default: anything outside our own namespaces)",
    )
    for each in (new, show, list_, trust):
        each.add_argument("--state", type=Path, metavar="DIR", help="the state directory")
    for each in (show, list_):
        each.add_argument("--json", action="store_true", help="one JSON object a line")


def run(arguments: argparse.Namespace) -> int:
    from mailbridge import config

    state: Path = arguments.state
    if state is None:
        state = config.load(arguments.config or config.default_config()).state_dir
    if arguments.action == "new":
        _new(arguments.id, arguments.dir or state / "keys", arguments.name)
    elif arguments.action == "show":
        _show(arguments.key, state, as_json=arguments.json)
    elif arguments.action == "list":
        _list(state, as_json=arguments.json)
    else:
        _trust(arguments.file, state, arguments.tags)
    return 0


def _new(entity: str, directory: Path, name: str) -> None:
    from mailbridge import keyring
    from mailbridge.errors import UsageError
    from mailbridge.signing import SigningKey, is_entity

    if not is_entity(entity):
        raise UsageError(f"{entity[:80]!r}: an ID is letters, digits, '.', '_' and '-'")
    key = SigningKey.generate(entity)
    for path in keyring.write_pair(directory, key, name):
        print(path)
    print(f"fingerprint {key.verify_key.fingerprint}", file=sys.stderr)


def _show(wanted: str, state: Path, *, as_json: bool) -> None:
    from mailbridge import keyring
    from mailbridge.errors import UsageError
    from mailbridge.signing import is_entity

    tried = [Path(wanted)]
    if is_entity(wanted):
        tried += [folder / f"{wanted}{keyring.PUBLIC}" for folder in keyring.state_dirs(state)]
    path = next((path for path in tried if path.is_file()), None)
    if path is None:
        raise UsageError(f"{wanted}: neither a key file nor a key in {state / 'keys'}")
    key = keyring.read_public(path)
    if as_json:
        _print_json(id=key.entity, fingerprint=key.fingerprint, verify_key=key.base64)
    else:
        print(f"id           {key.entity}")
        print(f"fingerprint  {key.fingerprint}")
        print(f"verify-key   {key.base64}")


def _list(state: Path, *, as_json: bool) -> None:
    from mailbridge import keyring

    own, trusted = (keyring.trusted(folder) for folder in keyring.state_dirs(state))
    policy = keyring.read_policy(state / "policy.toml")
    for role, keys in (("own", own), ("trusted", trusted)):
        for entity, key in sorted(keys.items()):
            tags = policy.get(entity)
            if as_json:
                _print_json(id=entity, fingerprint=key.fingerprint, role=role, tags=tags)
            else:
                print(f"{role:<8} {key.fingerprint}  {entity}", *(tags or ()))


def _trust(path: Path, state: Path, tags: list[str] | None) -> None:
    from mailbridge import keyring
    from mailbridge.event import NAMESPACE

    key = keyring.read_public(path)
    # (The policy first: if it cannot be written, the key may not emit more than was meant.)
    if tags:
        keyring.allow(state / "policy.toml", key.entity, tags)
    trusted = keyring.state_dirs(state)[1] / f"{key.entity}{keyring.PUBLIC}"
    keyring.write_public(trusted, key)
    print(trusted)
    may = " ".join(tags) if tags else f"any tag outside {NAMESPACE}.*"
    print(f"{key.entity} {key.fingerprint} is trusted; it may emit {may}", file=sys.stderr)


def _print_json(**fields: object) -> None:
    from mailbridge.event import canonical

    print(canonical(fields).decode())
