"""Figures: one file each, data in, SVG text out. The same data gives the same bytes (with the same matplotlib).

A figure is a fragment for a page: its colours are the page's CSS variables. ``canvas.standalone`` makes a file of it.
"""
