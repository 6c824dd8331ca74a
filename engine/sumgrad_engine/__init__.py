"""Expressions, graphs, differentiation and evaluation. Knows nothing of networks or processes."""
