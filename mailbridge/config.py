"""
The configuration: mailbridge.toml as frozen values (README.md, Configuration).

Every error names the file, the key and, for a word we do not know, the nearest one we do.
"""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_type_hints

import msgspec

from mailbridge.errors import ConfigError
from mailbridge.event import NAMESPACE, is_tag
from mailbridge.signing import is_entity

SYSTEM_CONFIG: Final = Path("/etc/mailbridge/mailbridge.toml")
SYSTEM_STATE: Final = Path("/var/lib/mailbridge")

SUBMIT: Final = "tcp://127.0.0.1:5581"
PUBLISH: Final = "tcp://127.0.0.1:5582"
READ: Final = "tcp://127.0.0.1:5583"
"""Our defaults keep clear of Lighthouse's 5570 to 5572: a first run on its host cannot stop it."""

LONGEST_WAIT: Final = 3600
"""Seconds that a mail may wait for its archive to speak for itself (`suppress_if_on_bus`)."""

Require = Literal["archive-signature", "dkim", "authres", "hop", "channel", "none"]


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One configured Maildir or list with its archive, kinds and requirements."""

    name: str
    maildir: str | None = None
    lists: tuple[str, ...] = ()
    archive: str | None = None
    repo: str | None = None
    kinds: tuple[str, ...] = ()
    emit: tuple[str, ...] = ()
    require: Require = "none"
    keyrings: tuple[str, ...] = ()
    """Whose signatures under a .changes are checked."""
    archive_keyring: str | None = None
    """The keys that the archive signs its mails with."""
    hops: tuple[str, ...] = ()
    """The verified names of the hosts that may hand our mail server this mail."""
    dkim_keys: str | None = None
    dkim_dns: bool = False
    """Keys that are not there may be asked for in the DNS."""
    dkim_domains: tuple[str, ...] = ()
    authserv_id: str | None = None
    after: str = "keep"
    existing: Literal["skip", "emit"] = "skip"
    expect_every: str | None = None
    rate: str | None = None
    namespace: str = NAMESPACE
    pool_url: str | None = None
    stand_in: bool = False
    """Uploads go out under Laniakea's own tags; see `_check_stand_in` for when."""
    suppress_if_on_bus: str | None = None
    """Uploads that the bus carries natively within this time are not emitted."""
    subfolders: bool = False
    """Maildir++ subfolders (`.name/`) are watched too."""


class Relay(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The embedded relay, or `relay` alone: where it binds, how long it keeps."""

    submit: str = SUBMIT
    publish: str = PUBLISH
    read: str = READ
    keep: str = "365d"
    upstream: tuple[str, ...] = ()
    """Publish sockets, of Lighthouses for one: what comes out there is kept here."""
    peer: tuple[str, ...] = ()
    """Read sockets of other relays, asked for what we lack."""
    curve: bool = False
    """Whether submit takes CurveZMQ only, from the keys in `keys/curve` of the state."""


class Lighthouse(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A Laniakea relay to emit to, in the quiet profile of wire.md."""

    submit: str
    publish: str
    rate: str = "2/s"
    changes_cap: int = 500


class Submit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where `bridge` sends: relays of ours, or a Lighthouse."""

    to: tuple[str, ...] = ()
    lighthouse: Lighthouse | None = None
    curve_server: str = ""
    """The CurveZMQ key of every relay sent to, Z85 or a path to it; empty: they take any."""


class Health(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    Ports that answer `/metrics`, `/live` and `/ready`: HOST:PORT, best on loopback; empty: none.

    There are two, as both services may read one file.
    """

    listen: str = ""
    """Of the bridge, and of `run`, which tells of its relay there as well."""
    relay: str = ""
    """Of a relay alone."""


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file, every default filled in."""

    entity: str = ""
    """Empty: `mailbridge.<fqdn>`, or what `default_entity` says where there is none."""
    state: str = ""
    origin: bool = True
    """Whether events name the host that emitted them."""
    addresses: bool = False
    """Whether the addresses of people who write bug mail go into events."""
    mailgun_absent: bool = False
    """The operator's word that no Laniakea mailgun listens; needed for `stand_in`."""
    max_mail: str = "25M"
    keep_sent: str = "30d"
    """How long events that every relay has are kept here, to be sent again; and what is done."""
    quarantine_keep: str = "90d"
    quarantine_max: str = "1G"
    rules: str = ""
    """Where a site's own rules are: a TOML file, or a directory of them."""
    source: tuple[Source, ...] = ()
    relay: Relay = Relay()
    submit: Submit = Submit()
    health: Health = Health()

    @property
    def state_dir(self) -> Path:
        """Where outbox, journal, keys and spool live."""
        return Path(self.state) if self.state else default_state()


def default_state() -> Path:
    """Return the state directory of a service (as its user or root), else of this user."""
    if os.geteuid() == 0 or os.access(SYSTEM_STATE, os.W_OK):
        return SYSTEM_STATE
    home = os.environ.get("XDG_STATE_HOME") or str(Path("~/.local/state").expanduser())
    return Path(home) / "mailbridge"


def default_config() -> Path | None:
    """Return the configuration file that is there without `-c`, or None."""
    home = os.environ.get("XDG_CONFIG_HOME") or str(Path("~/.config").expanduser())
    for path in (Path(home) / "mailbridge" / "mailbridge.toml", SYSTEM_CONFIG):
        try:
            if path.is_file():
                return path
        except PermissionError:
            # A home that we may not enter, as a sandboxed service's, holds no settings of ours.
            continue
    return None


def qualified_name() -> str | None:
    """Return this host's fully qualified name, or None where it has none."""
    name = socket.getfqdn().rstrip(".").lower()
    if "." not in name or name.startswith("localhost") or name.endswith((".local", ".localdomain")):
        return None
    return name if is_entity(name) else None


def load(path: Path | None) -> Config:
    """
    Return the configuration in *path*, or the defaults that work where it is None.

    Raises `ConfigError` naming file, key and mend.
    """
    if path is None:
        return Config()
    # (Many a command starts without a file: what reads one is loaded with it.)
    import tomllib  # noqa: PLC0415

    try:
        raw = path.read_bytes()
        tree = tomllib.loads(raw.decode("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: no TOML: {error}") from error
    try:
        config = msgspec.convert(tree, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {_explained(str(error), tree)}") from error
    try:
        check(config)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return config


def check(config: Config) -> None:
    """Return if the values of *config* make sense together; else raise `ConfigError`."""
    if config.entity and not is_entity(config.entity):
        raise ConfigError(f"entity: {config.entity!r}: letters, digits, '.', '_' and '-' only")
    size(config.max_mail, "max_mail")
    duration(config.keep_sent, "keep_sent")
    duration(config.quarantine_keep, "quarantine_keep")
    size(config.quarantine_max, "quarantine_max")
    names: set[str] = set()
    for source in config.source:
        if source.name in names:
            raise ConfigError(
                f"source {source.name!r}: stands twice; each source needs its own name"
            )
        names.add(source.name)
        _check_source(source, f"source {source.name!r}")
        _check_stand_in(source, f"source {source.name!r}", mailgun_absent=config.mailgun_absent)
    duration(config.relay.keep, "relay.keep")
    if config.submit.lighthouse:
        rate(config.submit.lighthouse.rate, "submit.lighthouse.rate")


def _check_source(source: Source, where: str) -> None:
    if not source.maildir and not source.lists:
        raise ConfigError(f"{where}: needs a maildir, or lists for mail that comes by the pipe")
    _check_namespace(source.namespace, f"{where}: namespace")
    _check_means(source, where)
    after(source.after, f"{where}: after")
    if source.rate:
        rate(source.rate, f"{where}: rate")
    if source.suppress_if_on_bus:
        key = f"{where}: suppress_if_on_bus"
        if duration(source.suppress_if_on_bus, key) > LONGEST_WAIT:
            raise ConfigError(f"{key}: {source.suppress_if_on_bus!r}: an hour is the longest wait")
    if source.expect_every:
        duration(source.expect_every, f"{where}: expect_every")


def _check_stand_in(source: Source, where: str, *, mailgun_absent: bool) -> None:
    if not source.stand_in:
        return
    if source.require == "none":
        raise ConfigError(
            f"{where}: stand_in: needs require above 'none', as 'channel': anybody's mail would be"
            " Laniakea's word"
        )
    if not mailgun_absent:
        raise ConfigError(
            f"{where}: stand_in: needs mailgun_absent = true at the top, your word that no mailgun"
            " of Laniakea hears these events: it would mail every uploader, and the very list"
            " that is read here"
        )


_MEANS: Final[dict[Require, tuple[tuple[str, ...], ...]]] = {
    # From strong to weak: what a source must name for each, one of each group, and what it then
    # proves.
    "archive-signature": (("archive_keyring",),),
    "dkim": (("dkim_keys", "dkim_dns"), ("dkim_domains",)),
    "authres": (("authserv_id",), ("dkim_domains",)),
    "hop": (("hops",),),
    "channel": (),
    "none": (),
}


def _check_means(source: Source, where: str) -> None:
    if (source.dkim_keys or source.dkim_dns) and not source.dkim_domains:
        key = "dkim_keys" if source.dkim_keys else "dkim_dns"
        raise ConfigError(f"{where}: {key}: needs dkim_domains, whose signatures count")
    enough = list(_MEANS)[: list(_MEANS).index(source.require) + 1]
    if any(all(any(getattr(source, k) for k in group) for group in _MEANS[h]) for h in enough):
        return
    keys = " and ".join(" or ".join(group) for group in _MEANS[source.require])
    raise ConfigError(f"{where}: require: {source.require!r} cannot be reached without {keys}")


def _check_namespace(namespace: str, where: str) -> None:
    if not is_tag(namespace):
        raise ConfigError(f"{where}: {namespace!r} cannot begin a tag")
    if namespace.startswith("_lk.") and namespace != NAMESPACE:
        raise ConfigError(
            f"{where}: {namespace!r} is Laniakea's; of those only {NAMESPACE!r} is ours;"
            " take your own, as 'org.example.mailbridge'"
        )


_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION: Final = re.compile(r"([0-9]{1,9})\s*([smhdw])")
_RATE: Final = re.compile(r"([0-9]{1,6})\s*/\s*([smhd])")
_SIZE: Final = re.compile(r"([0-9]{1,9})\s*([KMG]?)i?B?")


def duration(text: str, where: str = "duration") -> int:
    """
    Return the seconds of *text*, as `90s`, `15m`, `24h`, `30d`, `2w`.  Raises `ConfigError`.

    >>> duration("24h")
    86400
    """
    found = _DURATION.fullmatch(text.strip())
    if not found:
        raise ConfigError(f"{where}: {text!r}: a number and one of s, m, h, d, w, as '24h'")
    return int(found[1]) * _UNITS[found[2]]


def rate(text: str, where: str = "rate") -> float:
    """
    Return how many a second *text* allows, as `20/s` or `600/h`.  Raises `ConfigError`.

    >>> rate("120/m")
    2.0
    """
    found = _RATE.fullmatch(text.strip())
    if not found or not int(found[1]):
        raise ConfigError(f"{where}: {text!r}: a number and /s, /m, /h or /d, as '20/s'")
    return int(found[1]) / _UNITS[found[2]]


def size(text: str, where: str = "size") -> int:
    """
    Return the bytes of *text*, as `25M`.  Raises `ConfigError`.

    >>> size("25M") == 25 * 1024 * 1024
    True
    """
    found = _SIZE.fullmatch(text.strip())
    if not found or not int(found[1]):
        raise ConfigError(f"{where}: {text!r}: a number and K, M or G, as '25M'")
    return int(found[1]) << 10 * " KMG".index(found[2] or " ")


def after(text: str, where: str = "after") -> tuple[Literal["keep", "seen", "delete"], int]:
    """
    Return what becomes of a mail that is done, and after how many seconds.  Raises `ConfigError`.

    >>> after("keep"), after("delete:30d")
    (('keep', 0), ('delete', 2592000))
    """
    if text == "keep":
        return "keep", 0
    if text == "seen":
        return "seen", 0
    if text.startswith("delete:"):
        return "delete", duration(text.removeprefix("delete:"), where)
    raise ConfigError(f"{where}: {text!r}: one of 'keep', 'seen', 'delete:AGE' as 'delete:30d'")


# msgspec says "Object contains unknown field `x` - at `$.source[0]`".
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(?P<key>[^`]*)`")
_PLACE: Final = re.compile(r" - at `\$?\.?(?P<place>[^`]*)`")
_ENTRY: Final = re.compile(r"source\[(?P<index>[0-9]+)\]\.?(?P<key>.*)")
_TABLES: Final[dict[str, Any]] = {
    "source": Source,
    "relay": Relay,
    "submit": Submit,
    "submit.lighthouse": Lighthouse,
    "health": Health,
    "": Config,
}


def _explained(text: str, tree: dict[str, Any]) -> str:
    """Return msgspec's *text* about *tree* in words for whoever wrote the file."""
    found = _PLACE.search(text)
    place = found["place"] if found else ""
    told = _PLACE.sub("", text)
    unknown = _UNKNOWN.match(told)
    path = re.sub(r"\[[0-9]+\]", "", place)
    if unknown:
        words = [field.name for field in msgspec.structs.fields(_TABLES.get(path, Config))]
        import difflib  # noqa: PLC0415 - for the one error

        near = difflib.get_close_matches(unknown["key"], words, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(words)}"
        key = _named(f"{place}.{unknown['key']}".lstrip("."), tree)
        return f"{key}: no such setting; {hint}"
    hint = ""
    if told.startswith("Invalid enum value"):
        table, _, key = path.rpartition(".")
        allowed = get_args(get_type_hints(_TABLES[table])[key])
        hint = f"; one of {', '.join(repr(word) for word in allowed)}"
    return f"{_named(place, tree) or 'the file'}: {told[:1].lower()}{told[1:]}{hint}"


def _named(place: str, tree: dict[str, Any]) -> str:
    """Return *place* with a source called by its name, as `check` calls it, not by its number."""
    entry = _ENTRY.fullmatch(place)
    if not entry:
        return place
    index = int(entry["index"])
    source = tree["source"][index]
    name = source.get("name") if isinstance(source, dict) else None
    which = f"source {name!r}" if isinstance(name, str) else f"source number {index + 1}"
    return f"{which}: {entry['key']}" if entry["key"] else which
