"""Blockwise crowd counting with CLIP-EBC: a picture and points in, a count out.

A picture is cut into square blocks, each block's count falls into one of a few integer bins, and a
model says how likely each bin is; the bins' representative counts, weighted so, add up to the
picture's. Each step is a module of its own (`datasets`, `blocks`, `bins`, `prompts`, `models`,
`losses`, `training`, `evaluation`), to be imported by name: importing the package itself loads
nothing else.
"""

__version__ = "0.1.0"
