"""What a machine does with bundles: how fast, how steadily, and how near its own limits.

Read in this order: ladder random_bundle worker measurement series steadiness ceiling
device_ceiling, then environment and result_file, which every benchmark uses.
"""
