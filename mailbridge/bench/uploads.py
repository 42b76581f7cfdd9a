"""Announced uploads whose .changes somebody signed, with a key that is made for them."""

from __future__ import annotations

import warnings

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


def signed_uploads(count: int) -> tuple[list[bytes], bytes] | None:
    """Return *count* mails and the keyring for them; None where nobody here can sign."""
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
    mails = []
    for n in range(1, count + 1):
        block = sign(signer, _CHANGES.format(n=n).encode(), mode=SignatureMode.CLEAR)
        mails.append(_HEAD.format(n=n).encode() + block)
    return mails, bytes(cert)
