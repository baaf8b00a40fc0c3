"""Whole systems on one machine: time, traffic, energy, error and what each technique gives, row by row."""
