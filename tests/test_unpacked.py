"""An answer whose events came in one frame: what its relay says of their sizes has to be true."""

from __future__ import annotations

import pytest

from mailbridge.errors import BadInput
from mailbridge.wire.read import MAX_FRAMES, _unpacked


def test_events_in_one_frame_are_taken_apart_by_their_sizes() -> None:
    assert _unpacked([b"onetwothree"], [3, 3, 5], "tcp://x:1") == [b"one", b"two", b"three"]


@pytest.mark.parametrize(
    ("frames", "sizes"),
    [
        ([b"one"], [2]),
        ([b"one"], [4]),
        ([b"one"], [-1, 4]),
        ([b"one"], [True, 2]),
        ([b"one"], ["3"]),
        ([b"one"], 3),
        ([b"one"], [3, 0.0]),
        ([], [3]),
        ([b"one", b"two"], [6]),
        ([b"one", b"two"], [3, 3]),
        ([b""], [0] * MAX_FRAMES),
    ],
)
def test_sizes_that_are_not_those_of_the_frame_are_refused(
    frames: list[bytes], sizes: object
) -> None:
    with pytest.raises(BadInput, match="sizes"):
        _unpacked(frames, sizes, "tcp://x:1")
