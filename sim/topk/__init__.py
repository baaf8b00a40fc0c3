"""Top-k engines: the values they keep, and when. One module per implementation, named by ``Arch.topk.unit``.

``accel.units.implementation("sim.topk", name)`` returns the module. Each offers

``select_rows(unit, values, starts, ks, lfsr_state)``
    rows values[starts[r] : starts[r + 1]] (int64 [total], 0 or more) in order through the engine that the ``TopKUnit``
    describes; ks, int64 [rows], 0 or more; the pivot generator's state, which only quickselect uses. Returns
    ``sim.topk_schedule.Rows``.

What is the same for all of them, and with it the cycle of every transfer, is in :mod:`sim.topk_schedule`.
"""
