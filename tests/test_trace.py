"""What our own mail server wrote on top of a mail, and what a stranger made look like it."""

from __future__ import annotations

import pytest

from mailbridge.trace import Result, client, dkim_results, passed

US = "mx.example.org"
GOOD = f"{US}; dkim=pass (2048-bit key) header.d=ftp.example.org header.i=@ftp.example.org"
RECEIVED = ("Received", "from ftp.example.org (ftp.example.org [192.0.2.1])\n\tby mx (Postfix)")


def found(*values: str, below: str | None = None) -> str | None:
    fields = [*(("Authentication-Results", value) for value in values), RECEIVED]
    if below:
        fields.append(("Authentication-Results", below))
    return passed(dkim_results(fields, US), ["ftp.example.org"])


# -- Authentication-Results ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        GOOD,
        GOOD.upper(),
        f"{US} 1; dkim=pass header.d=ftp.example.org",
        f"{US};\n\tspf=pass smtp.mailfrom=x@example.net;\n\tdkim=pass\n header.d=ftp.example.org",
        f'{US}; dkim=pass reason="good; dkim=fail" header.d=ftp.example.org',
        f"(of ours) {US} (a; comment (in a comment)); dkim = pass header.d = ftp.example.org",
    ],
)
def test_what_our_server_found_good_is_good(value: str) -> None:
    assert found(value) == "ftp.example.org"


@pytest.mark.fault(102)
@pytest.mark.parametrize(
    "value",
    [
        f"{US}; none",
        f"{US}; dkim=fail header.d=ftp.example.org",
        f"{US}; dkim=none",
        f"{US}; spf=pass header.d=ftp.example.org",
        f"{US}; dkim=pass header.i=@ftp.example.org",
        f"{US}; dkim=pass header.d=evil.example.net",  # 102
        f"{US}; dkim=pass header.d=sub.ftp.example.org",
        f"{US}; dkim=pass header.d=evil.example.net header.d=ftp.example.org",
        f"{US}; dkim=fail (dkim=pass header.d=ftp.example.org)",
        f'{US}; dkim=fail reason="x; dkim=pass header.d=ftp.example.org"',
        f'{US}; dkim=pass header.d="evil.example.net header.d=ftp.example.org"',
        f"{US} 2; dkim=pass header.d=ftp.example.org",
        f"{US}; (open dkim=fail; dkim=pass header.d=ftp.example.org",
        "dkim=pass header.d=ftp.example.org",
        "",
    ],
)
def test_anything_else_is_not(value: str) -> None:
    assert found(value) is None


def test_another_server_s_word_is_nothing_to_us() -> None:
    assert found(GOOD.replace(US, "mx.evil.example.net")) is None
    assert found(GOOD.replace(US, f"{US}.evil.example.net")) is None


@pytest.mark.fault(100)
def test_what_stands_below_our_received_is_a_stranger_s() -> None:
    assert found(below=GOOD) is None


@pytest.mark.fault(101)
def test_several_of_ours_are_read_together_and_must_not_disagree() -> None:
    assert found(f"{US}; spf=pass", GOOD) == "ftp.example.org"
    assert found(GOOD, GOOD.replace("pass", "fail")) is None
    assert found(GOOD.replace("pass", "fail"), GOOD) is None
    assert found(GOOD, f"{US}; dkim=fail header.d=other.example.org") == "ftp.example.org"


def test_a_value_that_never_ends_is_cut() -> None:
    assert found(f"{US}; " + "(" * 100_000) is None
    assert found(f"{US}; dkim=pass " + 'x="' * 100_000) is None


def test_no_domain_means_no_answer() -> None:
    assert passed([Result("ftp.example.org", passed=True)], []) is None


# -- Received --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("from x (ftp.example.org [192.0.2.1]) by mx (Postfix) with ESMTP", "ftp.example.org"),
        ("from x (FTP.Example.org. [192.0.2.1])\n\t(using TLSv1.3)\n\tby mx", "ftp.example.org"),
        ("from x (ftp.example.org [IPv6:2001:db8::1]) by mx", "ftp.example.org"),
        ("from ftp.example.org (unknown [192.0.2.1]) by mx", None),
        ("from ftp.example.org ([192.0.2.1]) by mx", None),
        ("from ftp.example.org (evil.example.net [192.0.2.1]) by mx", "evil.example.net"),
        ("from [192.0.2.1] (port=1 helo=ftp.example.org) by mx", None),
        ("from x (ftp.example.org [192.0.2.1] extra) by mx", None),
        ("by mx (Postfix, from userid 1000)", None),
        ("", None),
    ],
)
def test_the_client_is_who_the_reverse_name_says(value: str, told: str | None) -> None:
    assert client([("Received", value)]) == told


def test_only_the_topmost_received_is_ours() -> None:
    forged = ("Received", "from x (ftp.example.org [192.0.2.1]) by mx.example.org (Postfix)")

    assert client([("Received", "from x (unknown [192.0.2.9]) by mx"), forged]) is None
    assert client([]) is None
