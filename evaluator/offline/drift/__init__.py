"""Drift of files: `two_tables` judges one table against another, `stream` watches one in time order.

The rules are those of `evaluator.drift`. Tables are read in batches; kept are counts, a bounded sample and the outcome
columns. Nothing is written.
"""
