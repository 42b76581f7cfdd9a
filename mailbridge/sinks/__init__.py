"""Services that show events to people and programs: each is a reader with a filter."""
