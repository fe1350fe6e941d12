"""Which convolutions cost accuracy when they are quantised, and which few to keep in float.

Nothing is calibrated again: the ranges come from the calibration cache.

Read in this order: score, layers, trial, record, search, result, analyse, summary, picture,
recipe_key.
"""
