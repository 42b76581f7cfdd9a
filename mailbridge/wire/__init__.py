"""The wire: ZeroMQ sockets with options that lose nothing silently, and what we ask a relay."""
