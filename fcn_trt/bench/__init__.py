"""What a machine does with bundles: how fast, how steadily, and how near its own limits."""
