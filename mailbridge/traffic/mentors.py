"""Mails of a debexpo, as that of mentors: they have no header of their own, and end in its name."""

from __future__ import annotations

from typing import Any, Final

from mailbridge.traffic import words
from mailbridge.traffic.letter import text
from mailbridge.traffic.posted import posted
from mailbridge.traffic.tale import News, Tale
from mailbridge.traffic.world import World

_SITE: Final = f"mentors.{words.DOMAIN}"
_LONG_ALONE: Final = "The package was not sponsored for twenty weeks."


def mentored(world: World) -> Tale:
    """Return a mail about a package that looks for a sponsor, and is in no archive."""
    name = f"{world.rng.choice(words.FIRST)}{world.rng.choice(words.SECOND)}-new"
    version = world.version()
    who = world.somebody()
    page = f"https://{_SITE}/package/{name}/"
    what = world.rng.choice(("uploaded", "commented", "removed"))
    told: dict[str, Any] = {"source_name": name}
    if what == "uploaded":
        subject = f"{name}_{version}: ACCEPTED into unstable"
        dsc = f"https://{_SITE}/debian/pool/main/{name[0]}/{name}/{name}_{version}.dsc"
        said = (
            f"Hi.\n\nYour upload of the package '{name}' to {_SITE} was\nsuccessful. Others can"
            f" now see it. The URL of your package is:\n\n{page}\n\nThe respective dsc file can"
            f" be found at:\n\n{dsc}\n\nIf you do not yet have a sponsor for your package you"
            " may want to ask.\n\nThanks,\n"
        )
        told |= {"source_version": version, "distribution": "unstable", "dsc_url": dsc, "url": page}
    elif what == "commented":
        subject = f"New comment on package {name}"
        said = (
            "A comment has been posted on a package that you are subscribed to.\n\n"
            f"Comment posted about package {name}.\n\nFrom: {who.name}\nComment:\n\n"
            f"{world.rng.choice(words.REMARKS)}\n\nThanks,\n"
        )
        told |= {"actor_name": who.name}
    else:
        subject = f"{name} has been removed from unstable on Mentors"
        said = (
            f"Your package {name} {version} has been removed from\nunstable on {_SITE} for the"
            f" following reason:\n\n{_LONG_ALONE}\n\nThanks,\n"
        )
        told |= {"distribution": "unstable", "reason": _LONG_ALONE}
    letter = posted(
        world,
        "mentors",
        text(f"{said}-- \n{_SITE}\n", "8bit" if world.chance(0.5) else "quoted-printable"),
        subject=subject,
        sender=f"{_SITE} <support@{_SITE}>",
        to=who.address,
    )
    news = News(f"mentors-package-{what}", told, f"mentors {letter.message_id}")
    return Tale(what=f"mentors {what}", letter=letter, off=(news,))
