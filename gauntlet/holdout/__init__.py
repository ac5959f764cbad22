"""Two models on the same held-out rows: statistics of both, and one paired bootstrap over blocks of rows for all.

Pure, vectorised: a statistic is evaluated under many weightings of the blocks at once. The retrainer's gate and
`gauntlet compare` stand on it.
"""
