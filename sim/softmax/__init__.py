"""Softmax units. One module per implementation, named by ``Arch.softmax.unit``.

Each offers ``rows(scores, visible, lanes, maximum, total) -> Rows`` (numba): many rows of one job, bit-true.
"""
