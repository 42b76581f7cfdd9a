"""What `run`, `bridge` and `ingest` have in common: options, and the configuration they give."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mailbridge.config import Config

if TYPE_CHECKING:
    from mailbridge.rules import Rules


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what mail is taken, and how."""
    parser.add_argument(
        "--maildir",
        action="append",
        default=[],
        type=Path,
        metavar="DIR",
        help="watch this Maildir; mails that are there already are taken as read (repeatable)",
    )
    parser.add_argument(
        "--after",
        metavar="WHAT",
        help="what becomes of a mail that is done: keep (default), seen, delete:AGE as delete:30d",
    )
    parser.add_argument(
        "--existing",
        choices=("skip", "emit"),
        help="mails already there when a Maildir is first seen: skip (default) or emit",
    )
    parser.add_argument(
        "--subfolders", action="store_true", help="watch the Maildir++ folders in it as well"
    )
    parser.add_argument(
        "--lists",
        action="append",
        metavar="LIST-ID",
        help="take only mail of this list, as pureos-changes.lists.puri.sm (repeatable)",
    )
    add_state_options(parser)


def add_state_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say who we are and what we take."""
    parser.add_argument("--state", type=Path, metavar="DIR", help="the state directory")
    parser.add_argument("--entity", metavar="ID", help="who signs (default: mailbridge.<fqdn>)")
    parser.add_argument(
        "--accept-test",
        action="store_true",
        help="take made-up mail; its events go out under _lk.mailbridge-test",
    )


def configured(arguments: argparse.Namespace) -> Config:
    """
    Return the configuration file's values, those of *arguments* over them.

    Raises `ConfigError` or `UsageError`.
    """
    import msgspec

    from mailbridge import config as configuration

    config = configuration.load(arguments.config or configuration.default_config())
    if arguments.state:
        config = msgspec.structs.replace(config, state=str(arguments.state))
    if arguments.entity:
        config = msgspec.structs.replace(config, entity=arguments.entity)
    return config


def relay_state(state: Path) -> Path | None:
    """
    Return where the relay of this machine keeps its journal; None where there is none.

    That is *state*, or what the units give the relay alone: `<state>-relay`.
    """
    for place in (state, state.with_name(f"{state.name}-relay")):
        if (place / "journal.db").exists():
            return place
    return None


def site_rules(arguments: argparse.Namespace) -> Rules:
    """Return the site's own rules, as the configuration names them.  Raises `ConfigError`."""
    from mailbridge import config as configuration
    from mailbridge.rules import load

    return load(configuration.load(arguments.config or configuration.default_config()).rules)


def with_maildirs(config: Config, arguments: argparse.Namespace) -> Config:
    """Return *config* with a source for each `--maildir`, as the other options say."""
    from mailbridge import config as configuration
    from mailbridge.bridge.serve import with_maildirs as added
    from mailbridge.config import Source
    from mailbridge.errors import ConfigError, UsageError

    words = {"--after": arguments.after, "--existing": arguments.existing}
    words |= {"--lists": arguments.lists, "--subfolders": arguments.subfolders}
    given = [word for word, value in words.items() if value]
    if given and not arguments.maildir:
        raise UsageError(f"{given[0]} says how a --maildir is read; name one with --maildir DIR")
    try:
        configuration.after(arguments.after or "keep", "--after")
    except ConfigError as error:
        raise UsageError(str(error)) from error
    template = Source(
        name="",
        lists=tuple(arguments.lists or ()),
        after=arguments.after or "keep",
        existing=arguments.existing or "skip",
        subfolders=arguments.subfolders,
    )
    return added(config, arguments.maildir, template)
