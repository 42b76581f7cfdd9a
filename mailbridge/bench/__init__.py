"""
Figures of this installation, each beside the bare library calls it cannot do without.

A figure alone tells of the machine.  The ratio to the bare calls, taken in the same run, tells what
the gateway adds; that is what a change may not make worse.
"""

from __future__ import annotations

from mailbridge.bench.backfill import measure_backfill, measure_checked
from mailbridge.bench.bus import measure_bus
from mailbridge.bench.figure import Figure
from mailbridge.bench.latency import measure_latency
from mailbridge.bench.startup import measure_startup
from mailbridge.bench.understanding import measure_quiet, measure_recognise

__all__ = [
    "Figure",
    "measure_backfill",
    "measure_bus",
    "measure_checked",
    "measure_latency",
    "measure_quiet",
    "measure_recognise",
    "measure_startup",
]
