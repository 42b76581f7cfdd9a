"""Mails handed to a mail server, as the server of a list does it."""

from __future__ import annotations

import contextlib
import smtplib
import time
from types import TracebackType
from typing import Final, Self

from mailbridge.errors import RelayGone, TryAgain

_PATIENCE: Final = 60.0
_IDLE: Final = 10.0
"""Seconds after which we ask whether the server is still there; some hang up after a minute."""
_PERMANENT: Final = 500


class Smtp:
    """A connection to a mail server, for mails to *to*; none of them can bounce to anybody."""

    def __init__(self, host: str, port: int, to: str) -> None:
        """Connect.  Raises `TryAgain` where nobody answers."""
        self._place: Final = f"{host}:{port}"
        self._host: Final = host
        self._port: Final = port
        self._to: Final = to
        self._server = self._connected()
        self._used = time.monotonic()

    def deliver(self, raw: bytes) -> None:
        """
        Have *raw* accepted by the server.

        Raises `TryAgain` where it does not now, `RelayGone` where it never will.
        """
        if time.monotonic() - self._used > _IDLE and not self._is_there():
            self._server = self._connected()
        is_ascii = raw.isascii()
        options = [] if is_ascii or not self._server.has_extn("8bitmime") else ["BODY=8BITMIME"]
        # RFC 5321, 2.3.8: lines end in CRLF, and neither stands alone.
        lines = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
        try:
            # No sender: whatever becomes of it, nobody is told of made-up mail.
            self._server.sendmail("", [self._to], lines, mail_options=options)
        except smtplib.SMTPRecipientsRefused as error:
            code, words = next(iter(error.recipients.values()))
            raise self._refused(code, words) from error
        except smtplib.SMTPResponseException as error:
            raise self._refused(error.smtp_code, error.smtp_error) from error
        except (OSError, smtplib.SMTPException) as error:
            raise TryAgain(
                f"{self._place}: hung up: {error}; whether it has the last mail nobody knows"
            ) from error
        self._used = time.monotonic()

    def close(self) -> None:
        """Say goodbye, if there is still somebody."""
        with contextlib.suppress(OSError, smtplib.SMTPException):
            self._server.quit()
        self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _connected(self) -> smtplib.SMTP:
        try:
            server = smtplib.SMTP(
                self._host, self._port, local_hostname="generator.example.org", timeout=_PATIENCE
            )
            server.ehlo_or_helo_if_needed()
        except smtplib.SMTPResponseException as error:
            raise self._refused(error.smtp_code, error.smtp_error) from error
        except (OSError, smtplib.SMTPException) as error:
            raise TryAgain(
                f"{self._place}: no mail server answers: {error}; --smtp names HOST:PORT"
            ) from error
        return server

    def _is_there(self) -> bool:
        try:
            return self._server.noop()[0] < _PERMANENT
        except (OSError, smtplib.SMTPException):
            return False

    def _refused(self, code: int, words: bytes | str) -> TryAgain | RelayGone:
        said = words.decode("utf-8", "replace") if isinstance(words, bytes) else words
        line = f"{self._place}: mail to {self._to!r} refused: {code} {ascii(said)[1:-1]}"
        if code >= _PERMANENT:
            return RelayGone(f"{line}; --to names another recipient")
        return TryAgain(line)
