"""`mailbridge key`: make, show, list, trust, revoke and rotate keys."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mailbridge.signing import Last

SUMMARY = "Keys: new, show, list, trust, revoke, rotate, curve, allow"
GROUP = "keys, trust, proof"
EXAMPLE = "mailbridge key trust debexpo.example.org.key --tags 'org.example.mentors.*'"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(
        dest="action", required=True, metavar="new|show|list|trust|revoke|rotate|curve|allow"
    )

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
    revoke = action(
        "revoke",
        "A key was lost: believe nothing of it behind a certain event",
        "revoke debexpo.example.org --last 1789 --reason 'stolen laptop'",
    )
    revoke.add_argument("id", metavar="ID", help="the entity whose key it is")
    revoke.add_argument(
        "--last",
        required=True,
        metavar="NUMBER|head|none",
        help="the last event still believed: its number in the newest feed of ID that this state's"
        " journal has (FEED#NUMBER: in another), what the journal has now, or none at all",
    )
    revoke.add_argument("--reason", default="", help="for whoever finds the file")
    revoke.add_argument(
        "--dir", type=Path, help="beside which keys (default: keys/trusted of the state)"
    )
    rotate = action(
        "rotate",
        "Go on with a new key, under a new name; the old feed's last event names it",
        "rotate mailbridge2.lists.example.org --submit tcp://127.0.0.1:5581",
    )
    rotate.add_argument("id", metavar="NEW-ID", help="the name that the bridge signs under then")
    rotate.add_argument(
        "--submit",
        action="append",
        metavar="URL",
        help="the relay that gets the old feed's last event (default: as configured)",
    )
    rotate.add_argument(
        "--timeout", type=float, default=30.0, metavar="SECONDS", help="for the relay (default: 30)"
    )
    curve = action(
        "curve",
        "Print our own CurveZMQ keys, made where they are missing",
        "curve --state /var/lib/mailbridge",
    )
    allow = action(
        "allow",
        "Let a source connect to this machine's relay by its CurveZMQ key ([relay] curve)",
        "allow mailbridge.lists.example.org.curve",
    )
    allow.add_argument("file", metavar="FILE", type=Path, help="its public CurveZMQ key file")
    for each in (new, show, list_, trust, revoke, rotate, curve, allow):
        each.add_argument("--state", type=Path, metavar="DIR", help="the state directory")
    for each in (show, list_):
        each.add_argument("--json", action="store_true", help="one JSON object a line")


def run(arguments: argparse.Namespace) -> int:
    from mailbridge import config, keyring

    state: Path = arguments.state
    if state is None:
        state = config.load(arguments.config or config.default_config()).state_dir
    if arguments.action == "new":
        _new(arguments.id, arguments.dir or state / "keys", arguments.name)
    elif arguments.action == "show":
        _show(arguments.key, state, as_json=arguments.json)
    elif arguments.action == "list":
        _list(state, as_json=arguments.json)
    elif arguments.action == "trust":
        _trust(arguments.file, state, arguments.tags)
    elif arguments.action == "curve":
        _curve(state, arguments.config)
    elif arguments.action == "allow":
        print(keyring.allow_curve(state, arguments.file))
    elif arguments.action == "rotate":
        _rotate(arguments, state)
    else:
        directory = arguments.dir or keyring.state_dirs(state)[1]
        _revoke(arguments.id, arguments.last, state, directory, arguments.reason)
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
    revoked: dict[str, Last] = {}
    for folder in keyring.state_dirs(state):
        revoked |= keyring.revocations(folder)
    for role, keys in (("own", own), ("trusted", trusted)):
        for entity, key in sorted(keys.items()):
            tags, last = policy.get(entity), revoked.get(entity)
            if as_json:
                told = {"revoked": last._asdict()} if last else {}
                _print_json(id=entity, fingerprint=key.fingerprint, role=role, tags=tags, **told)
            else:
                print(f"{role:<8} {key.fingerprint}  {entity}", *(tags or ()), *_limit(last))


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


def _curve(state: Path, file: Path | None) -> None:
    from mailbridge import config, keyring
    from mailbridge.errors import NeedsOperator

    entity = config.load(file or config.default_config()).entity or None
    own = (
        keyring.load(state, "mailbridge", entity),
        keyring.load(state, "relay"),
        keyring.load(state, "emit"),
    )
    found = [key.entity for key in own if key]
    if not found:
        raise NeedsOperator(
            f"{state / 'keys'}: no key yet that one of CurveZMQ could belong to; start what it is"
            " for once, or 'mailbridge key new relay.NAME' (mailbridge.NAME for a bridge)"
        )
    for name in found:
        pair = keyring.ensure_curve(state, name)
        print(f"{keyring.curve_paths(state, name)[1]}  {pair.public.decode()}")


def _limit(last: Last | None) -> list[str]:
    if last is None:
        return []
    return (
        [f"(revoked: believed up to number {last.seq} of {last.feed})"]
        if last.seq
        else ["(revoked: nothing of it is believed)"]
    )


def _revoke(entity: str, wanted: str, state: Path, directory: Path, reason: str) -> None:
    from datetime import UTC, datetime

    from mailbridge import keyring
    from mailbridge.errors import UsageError
    from mailbridge.signing import Last, is_entity

    if not is_entity(entity):
        raise UsageError(f"{entity[:80]!r}: no entity's name")
    last = Last("", 0, "") if wanted == "none" else _last(entity, wanted, state)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    print(keyring.revoke(directory, entity, last, time=now, reason=reason))
    print(f"{entity} {' '.join(_limit(last))}", file=sys.stderr)


def _rotate(arguments: argparse.Namespace, state: Path) -> None:
    import msgspec

    from mailbridge import config as configuration
    from mailbridge import service
    from mailbridge.bridge.curve import curve_of
    from mailbridge.bridge.emitter import relays
    from mailbridge.bridge.rotate import rotate
    from mailbridge.bridge.state import opened
    from mailbridge.errors import NeedsOperator, UsageError
    from mailbridge.signing import is_entity

    service.set_up_logging()
    if not is_entity(arguments.id):
        raise UsageError(f"{arguments.id[:80]!r}: an ID is letters, digits, '.', '_' and '-'")
    config = configuration.load(arguments.config or configuration.default_config())
    if config.submit.lighthouse and not arguments.submit:
        raise NeedsOperator(
            "a Lighthouse keeps nothing that could name the new key: begin with a new --state there"
        )
    if not (state / "outbox.db").exists():
        raise NeedsOperator(f"{state}: no outbox whose key could be replaced")
    # (The name in the configuration may be the new one already.)
    config = msgspec.structs.replace(config, state=str(state), entity="")
    with opened(config) as ours:
        old = ours.key.entity
        to = arguments.submit or relays(config)
        curve = curve_of(config.submit, ours.directory, old)
        key = rotate(ours, arguments.id, to, timeout=arguments.timeout, curve=curve)
    public = state / "keys" / f"{key.entity}.key"
    print(public)
    print(
        f"{old} is succeeded by {key.entity} {key.verify_key.fingerprint}; a relay elsewhere wants"
        f" 'mailbridge key trust {public.name}' with the old one's tags, and a configured entity"
        f" is now {key.entity!r}",
        file=sys.stderr,
    )


def _last(entity: str, wanted: str, state: Path) -> Last:
    """Return the event that *wanted* names, out of this state's journal."""
    from mailbridge.errors import UsageError
    from mailbridge.journal import Reading
    from mailbridge.signing import Last

    path = state / "journal.db"
    if not path.is_file():
        raise UsageError(f"{path}: no journal that could tell its hash; give --last none")
    feed, _, number = wanted.rpartition("#")
    with Reading(path) as journal:
        feeds = sorted(f for f in journal.feeds() if f.partition("/")[0] == entity)
        if not feeds or (feed and feed not in feeds):
            raise UsageError(f"{path}: has no feed {feed or f'of {entity}'}")
        feed = feed or feeds[-1]
        head = journal.feeds()[feed].head
        if number == "head":
            number = str(head.seq)
        if not number.isdecimal() or not 1 <= int(number) <= head.seq:
            raise UsageError(f"--last {wanted}: {feed} has the numbers 1 to {head.seq}")
        ((_, _, _, found),) = journal.numbered(feed, int(number) - 1, 1)
    return Last(feed, int(number), found)


def _print_json(**fields: object) -> None:
    from mailbridge.event import canonical

    print(canonical(fields).decode())
