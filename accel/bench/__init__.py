"""The published benchmarks on the engine: rows, the sets of variants that figures need, the reproduction table."""
