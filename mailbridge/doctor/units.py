"""
The systemd units as they are installed: whether what a set-up needs is let into their sandbox, and
the drop-in that lets it.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from mailbridge import config as configuration
from mailbridge.config import Config
from mailbridge.doctor.patient import Finding, Host, Patient

UNIT: Final = "mailbridge.service"
STATE: Final = Path("/var/lib/mailbridge")
"""What the shipped unit may write."""

_PLACES: Final = ("/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system")
_HOMES: Final = (Path("/home"), Path("/root"), Path("/run/user"))
_HIDDEN: Final = ("yes", "true", "on", "1", "tmpfs")
_SETTING: Final = re.compile(r"(?m)^([A-Za-z]+)[ \t]*=[ \t]*((?:.*\\\n)*.*)$")


class Need(NamedTuple):
    """A path that the bridge uses."""

    path: Path
    what: str
    """For whom, for a person."""
    writes: bool = False

    @property
    def is_at_home(self) -> bool:
        """Whether ProtectHome hides it."""
        return any(self.path.is_relative_to(home) for home in _HOMES)


def needs(config: Config) -> Iterator[Need]:
    """Yield every path outside the state that *config* makes the bridge use."""
    for source in config.source:
        where = f"source {source.name!r}"
        if source.maildir:
            writes = configuration.after(source.after)[0] != "keep"
            yield Need(_whole(source.maildir), f"the Maildir of {where}", writes)
        named = [*source.keyrings, source.archive_keyring, source.dkim_keys]
        for name in filter(None, named):
            yield Need(_whole(name), f"keys of {where}")
    if config.rules:
        yield Need(_whole(config.rules), "your rules")


def shipped(patient: Patient) -> Iterator[Finding]:
    """The installed unit lets the bridge to everything that it needs."""
    settings = effective(patient.host, UNIT)
    if not settings or not patient.is_configured_for_units:
        return
    writable = [_path(word) for word in _words(settings, "ReadWritePaths", "BindPaths")]
    seen = writable + [_path(word) for word in _words(settings, "BindReadOnlyPaths")]
    home = _last(settings, "ProtectHome")
    strict = _last(settings, "ProtectSystem") == "strict"
    for need in needs(patient.config):
        if need.path.is_relative_to(STATE):
            continue
        mend = "'mailbridge doctor --drop-in' prints what 'systemctl edit mailbridge' needs"
        if need.is_at_home and home in _HIDDEN and not _covered(need.path, seen):
            what = f"{UNIT}: ProtectHome={home} hides {need.path}, {need.what}"
            yield Finding("unit-home", what, mend)
        elif need.writes and strict and not _covered(need.path, writable):
            what = (
                f"{UNIT}: lacks ReadWritePaths={need.path}, {need.what}, where mail is to be moved"
            )
            yield Finding("unit-writes", what, mend)


def drop_in(config: Config) -> str:
    """Return what the shipped unit of the bridge needs besides for *config*; comments, at least."""
    found = [need for need in needs(config) if not need.path.is_relative_to(STATE)]
    lines = ["# What this set-up needs beyond the shipped unit: 'systemctl edit mailbridge'."]
    settings: list[str] = []
    if any(need.is_at_home for need in found):
        settings += ["# Of the homes only these are seen.", "ProtectHome=tmpfs"]
    for need in found:
        word = _escaped(need.path)
        if need.is_at_home:
            name = "BindPaths" if need.writes else "BindReadOnlyPaths"
            settings += [f"# {_comment(need.what)}", f"{name}={word}"]
        elif need.writes:
            settings += [f"# {_comment(need.what)}", f"ReadWritePaths={word}"]
    addresses, names = _relays(config)
    if addresses:
        settings += ["# The relays, where the rest of the network is closed (IPAddressDeny=any)."]
        settings += [f"IPAddressAllow={address}" for address in addresses]
    lines += ["", "[Service]", *settings] if settings else ["# Nothing."]
    lines += [
        f"# {_comment(name)} is a name: with IPAddressDeny=any give its address to IPAddressAllow."
        for name in names
    ]
    lines += [
        f"# The user mailbridge must be let in, too: setfacl -R -m u:mailbridge:"
        f"{'rwX' if need.writes else 'rX'} {_comment(str(need.path))}"
        for need in found
        if need.is_at_home
    ]
    return "\n".join(lines) + "\n"


def effective(host: Host, unit: str) -> list[tuple[str, str]]:
    """Return the settings of *unit* with its drop-ins, in their order; none if it is not there."""
    main = next(
        (path for place in _PLACES if (path := host.path(f"{place}/{unit}")).is_file()), None
    )
    if main is None:
        return []
    parts: dict[str, Path] = {}
    # (Of two drop-ins with one name the first place decides; all of them go by name.)
    for place in reversed(_PLACES):
        for path in sorted(host.path(f"{place}/{unit}.d").glob("*.conf")):
            parts[path.name] = path
    texts = [main.read_text("utf-8", "replace")]
    texts += [parts[name].read_text("utf-8", "replace") for name in sorted(parts)]
    return [
        (key, " ".join(value.replace("\\\n", " ").split()))
        for text in texts
        for key, value in _SETTING.findall(text)
    ]


def _words(settings: list[tuple[str, str]], *names: str) -> list[str]:
    """Return the words of list settings; an empty one clears what came before."""
    found: dict[str, list[str]] = {name: [] for name in names}
    for key, value in settings:
        if key in found:
            # (Quoted as in a shell, nearly; systemd's specifiers begin with %.)
            found[key] = [*found[key], *shlex.split(value.replace("%%", "%"))] if value else []
    return [word for words in found.values() for word in words]


def _last(settings: list[tuple[str, str]], name: str) -> str:
    return next((value for key, value in reversed(settings) if key == name), "")


def _path(word: str) -> Path:
    # `-/a:/b:rbind` binds /a to /b: what is seen is /b.
    parts = word.strip('"').lstrip("-+").split(":")
    return Path((parts[1] if len(parts) > 1 else parts[0]).replace("\\x20", " "))


def _covered(path: Path, by: list[Path]) -> bool:
    return any(path.is_relative_to(one) for one in by)


def _relays(config: Config) -> tuple[list[str], list[str]]:
    """Return the addresses and the names of relays that are not on this host."""
    lighthouse = config.submit.lighthouse
    endpoints = [*config.submit.to]
    endpoints += [lighthouse.submit, lighthouse.publish] if lighthouse else []
    addresses: dict[str, None] = {}
    names: dict[str, None] = {}
    for endpoint in endpoints:
        host = endpoint.removeprefix("tcp://").rpartition(":")[0].strip("[]")
        if not endpoint.startswith("tcp://") or host == "localhost":
            continue
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            names[host] = None
        else:
            if not address.is_loopback:
                addresses[str(address)] = None
    return list(addresses), list(names)


def _whole(name: str) -> Path:
    return Path(name).expanduser().absolute()


def _escaped(path: Path) -> str:
    text = str(path).replace("%", "%%").replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"' if re.search(r"[\s\"'\\]", str(path)) else text


def _comment(text: str) -> str:
    return " ".join(text.split())
