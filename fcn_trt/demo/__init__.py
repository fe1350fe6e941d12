"""A procedural street with exact labels, and what the demo command makes of it."""
