"""The bridge: `deliver()` turns mail into signed events; everything else here is plumbing."""
