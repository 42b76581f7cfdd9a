"""`python3 -m mailbridge`."""

from __future__ import annotations

from mailbridge.cli import entry

if __name__ == "__main__":
    entry()
