"""Frames in, frames out: sources, sinks and the loop between them. Knows frames, not models."""
