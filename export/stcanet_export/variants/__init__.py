"""Variants of a graph: precisions, their search, and targets."""
