"""`mailbridge backup`: a copy of the state that can be trusted, while everything runs."""

from __future__ import annotations

import argparse
from pathlib import Path

SUMMARY = "Copy databases, keys, policy and quarantine while everything runs"
GROUP = "test and operate"
EXAMPLE = "mailbridge backup /var/backups/mailbridge"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `backup`."""
    parser.add_argument(
        "to",
        type=Path,
        metavar="DIR|FILE",
        help="where: a new directory is made in DIR; FILE ends with .tar, .tar.gz or .tgz",
    )
    parser.add_argument("--state", type=Path, metavar="DIR", help="the state directory")
    parser.add_argument("--entity", metavar="ID", help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    """Back up, check what was written, and say what it holds.  It has secret keys: mode 0600."""
    from mailbridge.bridge.backup import back_up
    from mailbridge.cli._gateway import configured

    made = back_up(configured(arguments).state_dir, arguments.to)
    print(f"{made.path}: {', '.join(made.parts)}; verified")
    return 0
