"""A drawn street with the exact label of every pixel: for the demo, ranges and evaluation.

Read in this order: scene, street, ground, style, drawing.
"""
