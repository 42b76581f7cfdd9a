"""A site's own rules: which mails they claim, what they make of one, and what no rule can do."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import dkim
import jsonschema
import msgspec
import nacl.signing
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbridge import config, kinds
from mailbridge.bridge.compose import Examined, check, examine, switches
from mailbridge.bridge.deliver import Delivery
from mailbridge.bridge.prove import Prover
from mailbridge.bridge.serve import bridge
from mailbridge.cli import main
from mailbridge.config import Source
from mailbridge.errors import ConfigError
from mailbridge.event import canonical, read_event
from mailbridge.payloads import schema
from mailbridge.rules import Rules, load
from mailbridge.rules.pattern import BadPattern, Pattern
from tests.conftest import NOON
from tests.openpgp import GnuPG, gnupg
from tests.test_golden import golden

FIXTURES: Final = Path(__file__).parent.parent / "fixtures"
EXAMPLES: Final = FIXTURES / "_rules"
CASES: Final = sorted(path.parent for path in EXAMPLES.glob("[!_]*/*/mail.eml"))
SILENT: Final = sorted(path.parent for path in EXAMPLES.glob("_*/*/mail.eml"))
SOURCE: Final = Source(name="golden", maildir="/nowhere")

RULE: Final = r"""
tag = "org.example.built"
headers = { Subject = 'built (?P<package>\S+) on (?P<hosts>.*)' }
fields = { package = "str", hosts = "list" }
data = { package = "{package}", hosts = { split = "{hosts}" } }
"""
MAIL: Final = b"""\
Received: from build.example.org (build.example.org [192.0.2.1]) by mx.example.org;
	Fri, 20 Nov 2026 11:00:01 +0000
From: builder@build.example.org
Subject: built greeter on one, two
Date: Fri, 20 Nov 2026 11:00:00 +0000
Message-ID: <1@build.example.org>

Well done.
"""


def written(tmp_path: Path, text: str, name: str = "built") -> Rules:
    (tmp_path / "rules.d").mkdir(exist_ok=True)
    (tmp_path / f"rules.d/{name}.toml").write_text(text)
    return load(str(tmp_path / "rules.d"))


def judged(raw: bytes, rules: Rules, **settings: object) -> Examined:
    source = msgspec.convert({"name": "site", "maildir": "/nowhere"} | settings, Source)
    return examine(raw, source, received=NOON, prover=Prover([source]), rules=rules)


# -- the examples, as an administrator would have them ---------------------------------------------


@pytest.fixture(scope="module")
def examples() -> Rules:
    return load(str(EXAMPLES))


def test_the_examples_are_there(examples: Rules) -> None:
    assert {kind.name for kind in examples.kinds} == {case.parent.name for case in CASES}
    assert SILENT


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}-{case.name}")
def test_a_rule_s_mail_gives_the_events_beside_it(case: Path, examples: Rules) -> None:
    raw = (case / "mail.eml").read_bytes()
    found = examine(raw, SOURCE, received=NOON, everything=True, rules=examples)
    actual = [
        {"tag": e.tag, "uuid": e.uuid, "author": e.author, "data": e.data} for e in found.events
    ]

    assert (found.outcome, found.family, found.kind) == ("events", "site", case.parent.name)
    assert actual == golden(case / "events.json", actual)
    for event in found.events:
        known = kinds.payloads() | examples.own
        told = schema(known[event.name]) | {"additionalProperties": False}
        jsonschema.validate(event.data, told, cls=jsonschema.Draft202012Validator)


@pytest.mark.parametrize("case", SILENT, ids=lambda case: case.name)
def test_what_only_looks_like_a_rule_s_mail_gives_none(case: Path, examples: Rules) -> None:
    found = examine((case / "mail.eml").read_bytes(), SOURCE, received=NOON, rules=examples)
    actual = {"outcome": found.outcome, "kind": found.kind, "code": found.code}

    assert actual == golden(case / "outcome.json", actual)


def test_rules_take_no_mail_of_ours_whatever_they_say(tmp_path: Path) -> None:
    greedy = written(
        tmp_path,
        """
tag = "org.example.mine"
headers = { Subject = '(?P<all>.*)' }
fields = { all = "str" }
data = { all = "{all}" }
""",
    )
    for path in sorted(FIXTURES.glob("[!_]*/*/mail.eml")) + sorted(FIXTURES.glob("_i*/*/mail.eml")):
        raw = path.read_bytes()
        without = examine(raw, SOURCE, received=NOON, everything=True)
        with_rules = examine(raw, SOURCE, received=NOON, everything=True, rules=greedy)
        if without.code != "not-ours":
            assert with_rules == without, path


# -- what a rule claims ----------------------------------------------------------------------------


def test_all_headers_and_all_patterns_must_match(tmp_path: Path) -> None:
    rules = written(
        tmp_path,
        RULE.replace("headers = {", "headers = { From = '.*@build\\.example\\.org',")
        + "body = { patterns = ['^Well (?P<how>\\S+)$'] }",
    )

    assert judged(MAIL, rules).kind == "built"
    assert judged(MAIL.replace(b"From: builder@build", b"From: x@other"), rules).kind is None
    assert judged(MAIL.replace(b"Subject: built", b"Subject: Re: built"), rules).kind is None
    assert judged(MAIL.replace(b"Well done", b"> Well done"), rules).kind is None


def test_a_list_s_prefix_before_the_subject_changes_nothing(tmp_path: Path) -> None:
    rules = written(tmp_path, RULE)

    listed = judged(MAIL.replace(b"built greeter", b"[builds] built greeter"), rules)

    assert listed.events[0].uuid == judged(MAIL, rules).events[0].uuid


def test_a_header_of_any_length_matches_nothing(tmp_path: Path) -> None:
    rules = written(tmp_path, RULE)

    assert judged(MAIL.replace(b"one", b"o" * 1_900), rules).kind == "built"
    assert judged(MAIL.replace(b"one", b"o" * 2_000), rules).kind is None


def test_only_the_first_lines_of_a_text_are_looked_at(tmp_path: Path) -> None:
    rules = written(tmp_path, RULE + "body = { lines = 3, patterns = ['^Well'] }")

    assert judged(MAIL.replace(b"Well", b"1\n2\nWell"), rules).kind == "built"
    assert judged(MAIL.replace(b"Well", b"1\n2\n3\nWell"), rules).kind is None


def test_two_rules_that_claim_one_mail_keep_it_until_one_is_stricter(tmp_path: Path) -> None:
    written(tmp_path, RULE, "one")
    both = written(tmp_path, RULE, "two")

    told = judged(MAIL, both)

    assert (told.outcome, told.code) == ("quarantined", "ambiguous")
    assert told.reason == "rules one and two both claim it: make one of them stricter"


def test_what_a_rule_cannot_read_is_kept(tmp_path: Path) -> None:
    rules = written(
        tmp_path,
        RULE.replace('package = "str"', 'package = "int"'),
    )

    told = judged(MAIL, rules)

    assert (told.outcome, told.kind, told.code) == ("quarantined", "built", "malformed")
    assert told.reason == "package: 'greeter': a number expected"


# -- what it says ----------------------------------------------------------------------------------


def test_a_tag_of_the_site_s_own_stands_for_itself(tmp_path: Path) -> None:
    rules = written(tmp_path, RULE)

    (event,) = judged(MAIL, rules, namespace="org.example.mailbridge").emitted
    (made_up,) = examine(
        b"X-Mailbridge-Generated: 1\n" + MAIL, SOURCE, received=NOON, accept_test=True, rules=rules
    ).events

    assert (event.tag, event.data["hosts"]) == ("org.example.built", ["one", "two"])
    assert made_up.tag == "_lk.mailbridge-test.org.example.built"
    assert made_up.uuid != event.uuid


def test_the_fields_of_the_identity_make_the_uuid_and_their_order_does_not(tmp_path: Path) -> None:
    def uuid(raw: bytes, extra: str = "") -> str:
        return judged(raw, written(tmp_path, RULE + extra)).events[0].uuid

    turned = MAIL.replace(b"one, two", b"two, one")
    other = MAIL.replace(b"one, two", b"three")

    assert uuid(MAIL) == uuid(turned) != uuid(other)
    assert uuid(MAIL, 'identity = ["package"]') == uuid(other, 'identity = ["package"]')


def test_what_is_cut_from_sight_makes_two_mails_no_one(tmp_path: Path) -> None:
    rules = written(tmp_path, RULE)
    long = MAIL.replace(b"greeter", b"g" * 900)

    one = judged(long + b"1", rules).events[0]
    other = judged(long.replace(b"ggg on", b"ggh on"), rules).events[0]

    assert one.data["truncated"]
    assert one.data["package"] == other.data["package"]
    assert one.uuid != other.uuid


def test_a_rule_s_archive_goes_before_the_source_s(tmp_path: Path) -> None:
    plain = judged(MAIL, written(tmp_path, RULE), archive="Debian")
    named = judged(MAIL, written(tmp_path, RULE + 'archive = "Example"'), archive="Debian")

    assert [told.events[0].data["archive"] for told in (plain, named)] == ["Debian", "Example"]
    assert judged(MAIL, written(tmp_path, RULE)).events[0].data["archive"] == "unknown"


def test_links_and_addresses_are_what_they_seem_or_are_not_there(tmp_path: Path) -> None:
    rules = written(
        tmp_path,
        r"""
tag = "org.example.seen"
headers = { Subject = '(?P<url>\S+) (?P<mail>.*)' }
fields = { who_email = "str?" }
data = { url = "{url}", who_email = "{mail}" }
""",
    )

    def told(subject: bytes) -> dict[str, Any]:
        (event,) = judged(b"Subject: " + subject + b"\n\n", rules).events
        return {key: event.data.get(key) for key in ("url", "who_email")}

    assert told(b"https://example.org/x a@example.org") == {
        "url": "https://example.org/x",
        "who_email": "a@example.org",
    }
    assert told(b"javascript:alert(1) a@example.org,b@example.org") == {
        "url": None,
        "who_email": None,
    }


def test_an_upload_has_one_uuid_whoever_tells_of_it(tmp_path: Path) -> None:
    announced = (FIXTURES / "laniakea_accepted/announced/mail.eml").read_bytes()
    (case,) = [case for case in CASES if case.parent.name == "drop-box"]
    raw = (case / "mail.eml").read_bytes()
    renamed = raw.replace(b"drop box", b"box").replace(b"dropbox@", b"box@")
    other = (EXAMPLES / "drop-box.toml").read_text().replace("drop box", "box")
    again = written(tmp_path, other.replace("dropbox@", "box@"), "box")

    one = judged(raw, load(str(EXAMPLES))).events[0]

    assert judged(renamed, again).events[0].uuid == one.uuid
    assert judged(announced, again).events[0].uuid != one.uuid


def test_a_rule_that_wants_a_changes_quarantines_a_mail_without_one() -> None:
    raw = b"From: dropbox@upload.example.org\nSubject: [drop box] taken: testing/x\n\nHello.\n"

    told = judged(raw, load(str(EXAMPLES)))

    assert (told.outcome, told.code, told.reason) == (
        "quarantined",
        "malformed",
        "no .changes in it",
    )


def test_an_upload_is_in_the_repository_of_its_source() -> None:
    raw = (EXAMPLES / "drop-box/taken/mail.eml").read_bytes()
    rules = load(str(EXAMPLES))

    (named,) = judged(raw, rules, repo="tools").events
    (other,) = judged(raw, rules).events

    assert (named.data["repo"], other.data["repo"]) == ("tools", "example")
    assert named.uuid == other.uuid


def test_a_field_the_mail_leaves_open_is_left_out_or_missed(tmp_path: Path) -> None:
    text = RULE.replace("on (?P<hosts>.*)", "on .*( by (?P<who>.*))?").replace(
        'hosts = "list"', 'who = "str?"'
    )
    text = text.replace('hosts = { split = "{hosts}" }', 'who = "{who}"')

    (event,) = judged(MAIL, written(tmp_path, text)).events
    missed = judged(MAIL, written(tmp_path, text.replace("str?", "str")))

    assert "who" not in event.data
    assert missed.reason == "who: the mail does not tell"


# -- switches and proof ----------------------------------------------------------------------------


def test_a_source_names_rules_and_their_tags_as_any_others(tmp_path: Path) -> None:
    rules = written(tmp_path, RULE)
    only_dak = Source(name="a", maildir="/x", kinds=("dak",))
    only_site = Source(name="b", maildir="/x", kinds=("site",), emit=("org.example.built",))

    check([only_dak, only_site], rules)

    assert judged(MAIL, rules, kinds=["dak"]).code == "switched-off"
    assert judged(MAIL, rules, kinds=["built"]).outcome == "events"
    assert switches(only_dak, rules)["org.example.built"] == "off"
    assert switches(only_site, rules)["org.example.built"] == "on"
    with pytest.raises(ConfigError, match=r"'bilt' is not known; did you mean 'built'"):
        check([Source(name="c", maildir="/x", kinds=("bilt",))], rules)
    with pytest.raises(ConfigError, match=r"'built' is not known"):
        check([Source(name="c", maildir="/x", kinds=("built",))])


SEED: Final = bytes(range(32))
BUILD: Final = "build.example.org"


def _signed(headers: tuple[str, ...]) -> bytes:
    signature: bytes = dkim.sign(
        MAIL,
        b"sel",
        BUILD.encode(),
        base64.b64encode(SEED),
        signature_algorithm=b"ed25519-sha256",
        include_headers=[name.encode() for name in headers],
    )
    return signature.replace(b"\r\n", b"\n") + MAIL


def test_a_dkim_signature_backs_what_a_rule_read_under_it_and_nothing_else(tmp_path: Path) -> None:
    public = base64.b64encode(bytes(nacl.signing.SigningKey(SEED).verify_key)).decode()
    (tmp_path / "dkim").mkdir()
    (tmp_path / f"dkim/sel.{BUILD}").write_text(f"v=DKIM1; k=ed25519; p={public}\n")
    settings = {"dkim_keys": f"{tmp_path}/dkim", "dkim_domains": [BUILD], "require": "dkim"}
    rules = written(tmp_path, RULE)

    whole = judged(_signed(("From", "Subject", "Date", "Message-ID")), rules, **settings)
    open_subject = judged(_signed(("From", "Date", "Message-ID")), rules, **settings)

    assert (whole.outcome, whole.provenance.sent_by.who) == ("events", BUILD)
    assert (open_subject.outcome, open_subject.code) == ("quarantined", "unproved")


@pytest.fixture(scope="module")
def gpg() -> Iterator[GnuPG]:
    with gnupg() as home:
        yield home


@pytest.mark.needs_program("gpg")
def test_who_signed_the_changes_that_a_rule_reads_is_told(gpg: GnuPG, tmp_path: Path) -> None:
    key = gpg.key("Pat Example <pat@example.org>")
    (tmp_path / "ring.gpg").write_bytes(gpg.export(key))
    head, _, changes = (EXAMPLES / "drop-box/taken/mail.eml").read_text().partition("Format:")
    raw = (head + gpg.clearsign(f"Format:{changes}", key).decode()).encode()
    ring = {"keyrings": [f"{tmp_path}/ring.gpg"]}

    good = judged(raw, load(str(EXAMPLES)), **ring)
    forged = judged(raw.replace(b"greeter_0.5-1", b"greeter_0.6-1"), load(str(EXAMPLES)), **ring)

    assert good.provenance.signed_by.fingerprint == key
    assert good.emitted
    assert (forged.outcome, forged.code) == ("quarantined", "bad-signature")


@pytest.mark.needs_program("gpg")
def test_an_archive_s_signature_of_a_body_backs_nothing_that_a_header_says(
    gpg: GnuPG, tmp_path: Path
) -> None:
    key = gpg.key("Archive <ftpmaster@upload.example.org>")
    (tmp_path / "archive.gpg").write_bytes(gpg.export(key))
    head, _, changes = (EXAMPLES / "drop-box/taken/mail.eml").read_text().partition("MIME-Version")
    part = "Content-Type: text/plain; charset=utf-8\n\n" + changes.partition("\n\n")[2]
    signature = gpg.detached(part.replace("\n", "\r\n").encode(), key).decode()
    raw = f"""{head.replace("testing/", "unstable/")}\
Content-Type: multipart/signed; micalg="pgp-sha256"; boundary="=1=";
 protocol="application/pgp-signature"

--=1=
{part}
--=1=
Content-Type: application/pgp-signature

{signature}
--=1=--
"""

    told = judged(raw.encode(), load(str(EXAMPLES)), archive_keyring=f"{tmp_path}/archive.gpg")

    assert told.events[0].data["suite"] == told.events[0].data["distribution"] == "unstable"
    assert told.provenance.sent_by.how == "none"


# -- hostile ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pattern",
    [r"(a)\1", r"(?P<x>a)(?P=x)", r"(?=a)b", r"(?!a)b", r"(?<=a)b", r"(?<!a)b", r"(?>a)b", r"a++b"],
)
def test_a_pattern_that_would_go_back_is_refused(pattern: str) -> None:
    with pytest.raises(BadPattern):
        Pattern(pattern)


def test_patterns_are_matched_by_an_engine_that_never_goes_back() -> None:
    # Python's own would need 2 ** 100,000 steps for it, and this test would never end.
    assert Pattern(r"(a+)+$").whole("a" * 100_000 + "b") is None
    assert type(Pattern("a")._compiled).__module__ == "re2"


@pytest.mark.parametrize(
    "pattern", ["a" * 1_001, r".{1,1000}" * 3, r"(?P<a>x)(?P<a>y)", r"(?P<A>x)", "(", "\ud800"]
)
def test_a_pattern_is_small_and_its_groups_are_named_once(pattern: str) -> None:
    with pytest.raises(BadPattern):
        Pattern(pattern)


_ANY_RULES: Final = [
    (r"(?P<a>.*)", r"(?P<b>.*)"),
    (r"((?P<a>\S*)\s*)*", r"(?s)(?P<b>.*)"),
    (r"(?P<a>(a|aa)+)?.*", r"(?s)(?P<b>x*)*"),
    (r"(?i)(?P<a>\pL*)\PL*", r"^$|(?P<b>\W+)"),
]


@pytest.fixture(scope="module", params=range(len(_ANY_RULES)))
def any_rules(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Rules:
    header, body = _ANY_RULES[request.param]
    path = tmp_path_factory.mktemp("rules") / "any.toml"
    path.write_text(f"""
[[rule]]
name = "own"
tag = "org.example.any"
headers = {{ X-Own = '{header}' }}
body = {{ patterns = ['{body}'] }}
fields = {{ a = "str", b = "text?", c = "list?", n = "ints?", a_email = "str?" }}
author = "{{b}}"
[rule.data]
a = "{{a}}"
b = "{{b}}"
c = {{ split = "{{b}}" }}
n = {{ split = "{{a}}", at = '[^0-9]+' }}
a_email = "{{a}}"
url = "{{b}}"
[[rule]]
name = "ours"
tag = "package-upload-accepted"
from_changes = true
headers = {{ X-Ours = '{header}' }}
data = {{ suites = {{ split = "{{a}}" }}, url = "{{a}}" }}
""")
    return load(str(path))


@given(
    name=st.sampled_from([b"X-Own", b"X-Ours"]),
    value=st.binary(max_size=200),
    body=st.one_of(
        st.binary(max_size=300),
        st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")),
        st.just(b"Format: 1.8\nSource: x\nVersion: 1\nChanges:\n x\n"),
    ),
)
def test_whatever_a_mail_holds_a_rule_makes_json_of_it_or_refuses(
    any_rules: Rules, name: bytes, value: bytes, body: bytes
) -> None:
    raw = name + b": " + value.replace(b"\n", b" ") + b"\n\n" + body

    told = examine(raw, SOURCE, received=NOON, everything=True, rules=any_rules)

    assert told.code != "bug"
    for event in told.events:
        assert canonical(event.data)
        strings = [event.data["a"]] if "a" in event.data else []
        assert all(text.isprintable() or not text for text in strings)


# -- what is wrong in a file -----------------------------------------------------------------------

OURS: Final = """
tag = "package-upload-rejected"
headers = { Subject = 'no (?P<upload>.*)' }
data = { upload_name = "{upload}", reason = "none" }
"""


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("headers", "heders", "heders: no such key; did you mean 'headers'?"),
        ("tag =", "# tag =", "tag: is missing"),
        ("'built (?P<pack", "'built (?P<PACK", "headers.Subject: 'PACKage': a group's name is of"),
        ("'built (", "'built \\1(", "headers.Subject: invalid escape sequence: \\1; a back-ref"),
        ("'built (", "'(?=x)built (", "headers.Subject: invalid perl operator: (?=; look-around"),
        ("Subject =", '"Sub ject" =', "headers: 'Sub ject' is no header's name"),
        ("{ Subject = 'built (?P<package>\\S+) on (?P<hosts>.*)' }", "{}", "headers: needs at"),
        ('"{package}"', '"{pakage}"', "data.package: no group 'pakage' in the patterns; did you"),
        ('"{package}"', '"{package"', "data.package: '{package': '{group}' expected"),
        ('"{package}"', "true", "data.package: true or false is no value"),
        ('"{package}"', "5", "data.package: a text expected"),
        ('"{package}"', '["{package}"]', "data.package: one value expected, no list"),
        ('"{package}"', "1.5", "data.package: a text, a whole number, true or false"),
        ("split =", "splt =", "data.hosts: a text, a whole number, true or false, a list of"),
        ('{ package = "{', '{ pack = "{', "data.pack: no field of org.example.built; did you me"),
        ('"str"', '"string"', "fields.package: 'string': one of 'str', 'text', 'int', 'bool'"),
        ("fields =", "# fields =", "fields: 'org.example.built' is your own tag: it needs"),
        ("fields = { package", "fields = { source", "fields.source: the bridge says that itself"),
        ("fields = { package", "fields = { Source", "fields.Source: a name is of a to z"),
        ('hosts = "list"', 'architectures = "str"', "fields.architectures: must be 'list'"),
        ('hosts = "list"', 'hosts = "list", why = "str"', "data: org.example.built needs why"),
        ("org.example.built", "org.exa mple", "'org.exa mple': dotted words of letters"),
        ("org.example.built", "_lk.archive.built", "tag: '_lk.archive.built' is Laniakea's"),
        ("org.example.built", "package-upload-acepted", "tag: 'package-upload-acepted' is not k"),
        ("data =", 'identity = ["pakage"]\ndata =', "identity: 'pakage' is not in data; did you"),
        ("data =", "identity = []\ndata =", "identity: nothing in it is of the mail"),
        ("data =", "from_changes = true\ndata =", "from_changes: a .changes tells of uploads al"),
        ("data =", "body = { lines = 0, patterns = [] }\ndata =", "body.lines: 1 to 500"),
        ("data =", "body = { pattern = [] }\ndata =", "body.pattern: no such key; did you mean"),
        ("data =", "body = { patterns = ['(?P<package>x)'] }\ndata =", "the group 'package' stan"),
        ("data =", f"body = {{ patterns = {['x'] * 10} }}\ndata =", "11 patterns, 10 are allowed"),
        ("data =", 'author = "{who}"\ndata =', "author: no group 'who' in the patterns; known a"),
        ("data =", 'name = "dak"\ndata =', "name: that is one of ours"),
        ("data =", 'name = "A b"\ndata =', "name: up to 60 of a to z"),
        ("data =", "from_changes = 1\ndata =", "from_changes: expected `bool`, got `int`"),
    ],
)
def test_a_wrong_rule_is_told_by_file_rule_and_key(
    tmp_path: Path, old: str, new: str, told: str
) -> None:
    assert old in RULE

    with pytest.raises(ConfigError) as caught:
        written(tmp_path, RULE.replace(old, new, 1))

    words = str(caught.value)
    assert words.startswith(f"{tmp_path}/rules.d/built.toml: rule ")
    assert words.partition(": rule ")[2].partition(": ")[2].startswith(told)
    assert "\n" not in words
    assert caught.value.exit_status == 78


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (', reason = "none"', "", "data: package-upload-rejected needs reason, too"),
        ("reason", "raeson", "data.raeson: no field of package-upload-rejected; did you mean 're"),
        ("data =", 'fields = { x = "str" }\ndata =', "fields: 'package-upload-rejected' is a tag"),
        ('"none"', '"none", automatic = "yes"', "data.automatic: true or false expected"),
        ("data =", 'identity = ["reason"]\ndata =', "identity: nothing in it is of the mail"),
        ('"none"', '"none", source_name = "x"', None),
        ("data =", "from_changes = true\ndata =", None),
        (
            'data = { upload_name = "{upload}"',
            'from_changes = true\ndata = { source_name = "x"',
            "data.source_name: the .changes tells it: with from_changes nothing else may",
        ),
    ],
)
def test_a_tag_of_ours_is_filled_as_its_schema_says(
    tmp_path: Path, old: str, new: str, told: str | None
) -> None:
    assert old in OURS
    text = OURS.replace(old, new, 1)

    if told is None:
        assert written(tmp_path, text).kinds
    else:
        with pytest.raises(ConfigError) as caught:
            written(tmp_path, text)
        assert str(caught.value).partition("rule 'built': ")[2].startswith(told)


def test_what_no_rule_can_tell_is_said(tmp_path: Path) -> None:
    text = (EXAMPLES / "mini-dinstall.toml").read_text() + 'checksums = ["x"]\n'

    with pytest.raises(ConfigError, match=r"data\.checksums: is no text, number or list of them"):
        written(tmp_path, text)


def test_two_rules_need_two_names_and_agree_on_the_fields_of_a_tag(tmp_path: Path) -> None:
    written(tmp_path, 'name = "a"' + RULE, "one")
    with pytest.raises(ConfigError, match=r"rule 'a': stands in .*one.toml, too"):
        written(tmp_path, 'name = "a"' + RULE, "two")
    other = RULE.replace('"list"', '"list", more = "str?"')
    with pytest.raises(ConfigError, match=r"rule 'two': fields: rule 'a' gives this tag others"):
        written(tmp_path, other, "two")
    (tmp_path / "rules.d/two.toml").unlink()
    same = "\n".join(line for line in RULE.split("\n") if not line.startswith("fields"))
    assert len(written(tmp_path, same, "three").kinds) == 2


def test_a_file_may_hold_several_rules_or_be_one(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(
        f'[[rule]]\nname = "a"{RULE}\n[[rule]]\nname = "b"{RULE.replace("built (", "made (")}'
    )

    assert [kind.name for kind in load(str(path)).kinds] == ["a", "b"]
    path.write_text(f'[[rule]]\nname = "a"{RULE}\n[other]\nx = 1\n')
    with pytest.raises(ConfigError, match=r"rules.toml: other: stands beside \[\[rule\]\]"):
        load(str(path))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"tag = ", "no TOML: "),
        (b'tag = "\xff"', "no TOML: "),
        (b"#" * 300_000, "more than 262144 bytes"),
        (b"rule = 5", "rule 1: rule: expected `object`, got `int`"),
    ],
)
def test_a_file_that_is_no_rule_is_told(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(content)

    with pytest.raises(ConfigError, match=told):
        load(str(path))


def test_there_is_a_bound_on_rules(tmp_path: Path) -> None:
    path = tmp_path / "many.toml"
    path.write_text("\n".join(f'[[rule]]\nname = "r{number}"{RULE}' for number in range(101)))

    with pytest.raises(ConfigError, match="more than 100 rules"):
        load(str(path))
    heavy = RULE + f"body = {{ patterns = {['x'] * 9} }}"
    path.write_text("\n".join(f'[[rule]]\nname = "r{number}"{heavy}' for number in range(30)))
    with pytest.raises(ConfigError, match="rule 'r27': more than 300 patterns in all rules"):
        load(str(path))


def test_rules_that_are_not_there_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"x: cannot be read: No such file"):
        load(str(tmp_path / "x"))


def test_without_the_engine_rules_are_an_error_and_their_absence_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, RULE)
    monkeypatch.setitem(sys.modules, "re2", None)

    with pytest.raises(ConfigError, match=r"install mailbridge\[rules\]"):
        load(str(tmp_path / "rules.d"))
    assert load("").kinds == ()


# -- bridge and commands ---------------------------------------------------------------------------


@pytest.fixture
def configured(tmp_path: Path) -> Path:
    written(tmp_path, RULE)
    path = tmp_path / "mailbridge.toml"
    path.write_text(f"""
state = "{tmp_path}/state"
entity = "mailbridge.example.org"
rules = "{tmp_path}/rules.d"
[[source]]
name = "site"
maildir = "{tmp_path}/Maildir"
emit = ["org.example.built"]
""")
    return path


def test_bridge_and_explain_make_the_same_of_a_rule_s_mail(
    configured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = config.load(configured)
    (tmp_path / "mail.eml").write_bytes(MAIL)

    main(["-c", str(configured), "explain", "--json", str(tmp_path / "mail.eml")])
    told = json.loads(capsys.readouterr().out)
    main(["-c", str(configured), "explain", str(tmp_path / "mail.eml")])
    words = capsys.readouterr().out
    with bridge(settings, accept_test=False, sending=False) as ours:
        ours.gateway.deliver([Delivery(MAIL, settings.source, NOON)])
        (event,) = [read_event(stored.raw) for stored in ours.state.outbox.all()]

    assert (told["family"], told["kind"]) == ("site", "built")
    assert f"recognised as built (family site); known from: your own rule in {tmp_path}" in words
    assert (event.tag, event.uuid) == ("org.example.built", told["events"][0]["uuid"])
    assert event.data == told["events"][0]["data"]


def test_explain_tells_what_kept_a_rule_from_a_mail(
    configured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mail.eml").write_bytes(MAIL.replace(b"Subject: built", b"Subject: Re: built"))

    main(["-c", str(configured), "explain", str(tmp_path / "mail.eml")])

    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "  not of rule built: Subject is another: 'Re: built greeter on one, two'"


def test_kinds_schema_and_sources_tell_of_rules(
    configured: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*words: str) -> str:
        assert main(["-c", str(configured), *words]) == 0
        return capsys.readouterr().out

    every = map(json.loads, told("kinds", "--json").splitlines())
    kind = next(one for one in every if one["kind"] == "built")
    listed = told("kinds")

    assert kind["family"] == "site"
    assert kind["tags"] == [{"tag": "org.example.built", "default": "on"}]
    assert "\nsite\n  built: " in listed
    assert json.loads(told("schema", "org.example.built"))["title"] == "org.example.built"
    assert "org.example.built" in json.loads(told("schema"))
    assert json.loads(told("sources", "--json"))["tags"]["org.example.built"] == "on"


@pytest.mark.parametrize("command", [("bridge",), ("kinds",), ("explain", "x")])
def test_a_wrong_rule_ends_every_start_with_78(
    configured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    (tmp_path / "rules.d/built.toml").write_text("tag = 5")

    assert main(["-c", str(configured), *command]) == 78
    assert capsys.readouterr().err == (
        f"mailbridge: {tmp_path}/rules.d/built.toml: rule 'built': tag: expected `str`, got `int`\n"
    )


def test_an_administrator_tries_rules_on_mails_beside_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path, RULE)
    directory = tmp_path / "rules.d"
    case = directory / "built/by-two"
    case.mkdir(parents=True)
    (case / "mail.eml").write_bytes(MAIL)

    def tried() -> tuple[int, str]:
        return main(["explain", "--check", str(directory)]), capsys.readouterr().out

    status, out = tried()
    first, _, becomes = out.partition("\n")
    assert (status, first) == (
        65,
        "built/by-two: neither events.json nor outcome.json is beside it; it becomes",
    )
    (case / "events.json").write_text(becomes)
    assert tried() == (0, "built/by-two: as it must be\n")

    wanted = json.loads(becomes)
    wanted[0]["data"]["package"] = "other"
    (case / "events.json").write_text(json.dumps(wanted))
    assert tried()[1].startswith('built/by-two: [0].data.package is not "other"; it becomes\n')
    (case / "events.json").unlink()
    (case / "outcome.json").write_text('{"outcome": "ignored"}')
    assert tried()[0] == 65


def test_the_examples_pass_the_check_that_administrators_have(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status = main(["explain", "--check", str(EXAMPLES), "--json"])

    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (status, [one["wrong"] for one in told]) == (0, [None] * (len(CASES) + len(SILENT)))


def test_a_check_without_cases_and_an_explain_without_mails_are_mistakes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", "--check", str(tmp_path)]) == 2
    assert "no RULE/CASE/mail.eml in it" in capsys.readouterr().err
    assert main(["explain"]) == 2
    assert main(["explain", "--check", str(EXAMPLES), "x"]) == 2
