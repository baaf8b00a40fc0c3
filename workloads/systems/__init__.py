"""Whole systems as workloads: what they are, where their numbers come from, and the kernels they ask for."""
