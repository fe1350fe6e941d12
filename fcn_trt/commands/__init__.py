"""What each command of `fcn-trt` takes, does and prints; one module per group.

A command is one call into the package, and how its result is said. What it needs beyond its
options is imported when it runs, so that `fcn-trt --help` loads nothing heavy.

Read in this order: common, demo, models, export, calibrate, quantize, sensitivity, build, run,
evaluate, compare, inspect.
"""
