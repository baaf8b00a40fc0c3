"""Top-k engines: the values they keep, and when. One module per implementation, named by ``Arch.topk.unit``.

``accel.units.implementation("sim.topk", name)`` returns the module. Each offers:

``select_row(values, k, lanes, lfsr_state, kept)``
    numba; positions kept of one row into ``kept``; returns a ``Selection``.
``select_rows(values, starts, ks, lanes, lfsr_state)``
    numba; the same for many rows in order; returns ``Rows``.
``emit_gaps(kept, n_kept, lanes, gaps)``
    numba; the spacing of the output words of one row.
``schedule(unit, rows, stalls)``
    the cycle and the content of every transfer of the unit alone, under any stalls on any port.
"""
