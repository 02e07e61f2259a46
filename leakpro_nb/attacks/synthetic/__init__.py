"""What a synthetic table says about the real people behind it.

The attacks take tables encoded together (``game.tables.Coded``): the original, the synthetic table, and control records
that the generator never saw. What succeeds on control records as well is knowledge about the population; only what
succeeds more often on the original is a leak.
"""
