"""How timing kernels are compiled.

They work on arrays that others own and make none, so they need no reference counts: numba would count at every access
to an array of a NamedTuple, which took half of the time of a simulated cycle. Nor do they divide by anything that can
be zero.
"""

from numba import njit

timing_kernel = njit(cache=True, _nrt=False, error_model="numpy")  # type: ignore[call-overload]
