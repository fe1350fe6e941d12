"""The command line: one module per command, and how results look on a terminal.

A command is one call into the package, and how its result is said. What it needs beyond its
options is imported when it runs, so that `fcn-trt --help` loads nothing heavy.

Read in this order: app, common, terminal, then the commands.
"""
