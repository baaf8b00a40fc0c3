"""Rival machines and the engine on the same tensors: workloads, energy, settings, rows, validation and curves."""
