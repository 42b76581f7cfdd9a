"""Words that made-up mails are made of.  Every name is invented; nobody here exists."""

from __future__ import annotations

from typing import Final

DOMAIN: Final = "example.org"
LISTS: Final = f"lists.{DOMAIN}"
PROJECT: Final = "Vesper"
"""The derivative whose archive runs Laniakea."""
REPO: Final = "vesper"

PEOPLE: Final = (
    ("Ilse Vargand", "ilse"),
    ("Tomás Quindel", "tq"),
    ("Jørn Haldvik", "jorn"),
    ("Ásta Grímfell", "asta"),
    ("Noor El-Amradi", "noor"),
    ("Wen Jialuo", "wen"),
    ("Pádraig Mollane", "padraig"),
    ("Kwabena Asantrey", "kwabena"),
    ("Lúcia Brandoval", "lucia"),
    ("Oleh Kravenets", "oleh"),
    ("J. Q. Hallowell, Jr.", "jq"),
    ("Sünje Petermoor", "suenje"),
    ("Ravi Somdatta", "ravi"),
    ("Анна Лесная", "anna"),
    ("Mirela Oštrović", "mirela"),
    ("Θάλεια Μακρή", "thaleia"),
    ("D'Arcy Finchwood", "darcy"),
    ("Yuna Hoshikage", "yuna"),
)

TEAMS: Final = (
    ("Vesper Desktop Team", "team+desktop"),
    ("Lantern Packaging Team", "pkg-lantern"),
    ("Small Tools Maintainers", "small-tools"),
)

FIRST: Final = (
    *("amber", "brindle", "cinder", "dapple", "ember", "fennel", "gorse", "hazel", "juniper"),
    *("kestrel", "linnet", "marl", "nettle", "osier", "plover", "quill", "rowan", "sedge"),
    *("tansy", "umber", "vetch", "wick", "yarrow", "zephyr"),
)
SECOND: Final = ("", "kit", "ctl", "fs", "view", "-tools", "db", "mail", "-daemon", "net")

REPAIRS: Final = (
    "Fix a crash when the configuration file is empty",
    "Do not leave the lock file behind after SIGTERM",
    "Show the right page count for landscape paper",
    "Accept dates before 1970 again",
    "Stop asking for the password twice",
    "Read file names that are not valid UTF-8",
    "Keep the window's position over a suspend",
    "Build twice in a row, for the reproducibly minded",
    "Install the manual page that was forgotten",
    "Quote the path in the maintainer script",
)
CHORES: Final = (
    "Raise the standards version; no changes needed",
    "d/control: drop a dependency that nothing needs any more",
    "d/rules: let the helper do what it does anyway",
    "Update the symbols file",
    "Refresh the patches",
    "Translate the description — once more, with feeling",
    "Wrap and sort",
)
TROUBLES: Final = (
    "crashes when the configuration file is empty",
    "leaves its lock file behind",
    "wrong page count for landscape paper",
    "rejects dates before 1970",
    "asks for the password twice",
    "cannot read file names with a cedilla (ç)",
    "window jumps to the corner after suspend",
    "FTBFS: test_roundtrip fails on a machine with one core",
    "manual page missing",
    "please package the new upstream release",
    "[INTL:eo] updated translation — Ĉu preta?",
    'says "permission denied" & <nothing> else',
)
REASONS: Final = (
    "Your upload is older than what the suite already has.\nVersions must go up.",
    "The checksum of the upstream tarball differs from the one in the pool.",
    "File names two signatures; exactly one was expected.",
    "debian/copyright leaves out the files below third/.\n\nPlease list them, and upload again.",
)
SEVERITIES: Final = ("normal", "normal", "normal", "minor", "important", "serious", "wishlist")
TAGS: Final = ("patch", "l10n", "upstream", "security", "help", "sid", "moreinfo")
REMARKS: Final = (
    "I can see the same here, on two machines.",
    "Would you take a patch for this?",
    "This went away after I removed the old cache by hand.",
    "No idea what changed, but it worked last week.",
    "Thanks for the quick answer. I will try it tonight.",
)
FAREWELLS: Final = (
    "ROM; nobody upstream answers any more",
    "RoQA; superseded, and nothing depends on it",
    "NBS; no longer built by its source,\nand nothing is left that needs it",
)
GROUPS: Final = ("lantern", "meadow/tools", "small-tools")
"""Groups of projects, as a forge has them."""
