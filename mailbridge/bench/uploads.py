"""Announced uploads whose .changes somebody signed, with a key that is made for them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Final

_ARMOR: Final = b"-----BEGIN PGP SIGNED MESSAGE-----"

_HEAD = """\
From: Archive Masters <ftpmaster@archive.example.org>
To: devel-changes@lists.example.org
X-DAK: dak process-upload
X-Debian: DAK
Subject: Accepted package{n} 1.{n}-1 (source) into unstable
Message-Id: <upload-{n}@archive.example.org>
Date: Tue, 10 Sep 2024 10:20:40 +0000
X-Mailbridge-Generated: bench

"""
_CHANGES = """\
Format: 1.8
Date: Tue, 10 Sep 2024 12:00:00 +0200
Source: package{n}
Architecture: source
Version: 1.{n}-1
Distribution: unstable
Urgency: medium
Maintainer: Jane Doe <jane@example.org>
Changed-By: Jane Doe <jane@example.org>
Closes: {n}
Changes:
 package{n} (1.{n}-1) unstable; urgency=medium
 .
   * News number {n}. (Closes: #{n})
Checksums-Sha256:
 {n:064x} 2010 package{n}_1.{n}-1.dsc
 {n:064x} 41010 package{n}_1.{n}.orig.tar.xz
 {n:064x} 9312 package{n}_1.{n}-1.debian.tar.xz
Files:
 {n:032x} 2010 devel optional package{n}_1.{n}-1.dsc
 {n:032x} 41010 devel optional package{n}_1.{n}.orig.tar.xz
 {n:032x} 9312 devel optional package{n}_1.{n}-1.debian.tar.xz
"""


def signed(mails: Sequence[bytes]) -> tuple[list[bytes], bytes] | None:
    """
    Return *mails* with an upload that is signed for each that claims to hold one, and the keyring.

    None where nobody here can sign.
    """
    try:
        from pysequoia import Cert, SignatureMode, sign  # noqa: PLC0415 - an extra
    except ImportError:
        return None
    with warnings.catch_warnings():
        # (Newer versions have another name for it, older ones have not.)
        warnings.simplefilter("ignore", DeprecationWarning)
        cert = Cert.generate("Jane Doe <jane@example.org>")
        secrets = cert.secrets
    if secrets is None:
        return None
    signer = secrets.signer()
    found = []
    for n, raw in enumerate(mails, 1):
        if _ARMOR not in raw:
            found.append(raw)
            continue
        block = sign(signer, _CHANGES.format(n=n).encode(), mode=SignatureMode.CLEAR)
        found.append(_HEAD.format(n=n).encode() + block)
    return found, bytes(cert)
