"""What goes out on PUB: each event once as long as we live, and none skipped over a crash."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mailbridge import failpoint
from mailbridge.event import is_redacted
from mailbridge.journal import Journal
from mailbridge.relay.frames import send
from mailbridge.wire.sockets import Socket

_BATCH: Final = 512


class Publisher:
    """
    Publishes what readers see of *journal*, in its order.

    How far it is goes to the disk with the next batch.  So after a crash the last few events, the
    ones of which nobody knows whether they went out, go out again: who listens knows an event by
    its uuid, and would not know of one that is left out.
    """

    def __init__(self, socket: Socket, journal: Journal) -> None:
        self._socket: Final = socket
        self._journal: Final = journal
        self.position = journal.published()
        """Everything up to there went out."""

    @property
    def is_behind(self) -> bool:
        """Whether something is journaled that did not go out, as far as is known."""
        return self.position < self._journal.newest()

    def publish(self, frames: Sequence[tuple[bytes, bytes]]) -> None:
        """Publish *frames*, tag and event of what was just journaled, after all before them."""
        newest = self._journal.newest()
        if newest - self.position > len(frames):
            # (From before a crash, not resumed yet; or links of a feed that readers do not see.)
            self.publish_rest()
            return
        for message in frames:
            send(self._socket, message)
            failpoint.reached("relay-publishing")
        self.position = newest

    def publish_rest(self) -> None:
        """Publish everything that did not go out yet."""
        while rows := self._journal.frames(self.position, _BATCH):
            for pos, tag, raw in rows:
                if raw is not None and not is_redacted(raw):
                    send(self._socket, (tag.encode(), raw))
                self.position = pos
        self.position = self._journal.newest()
