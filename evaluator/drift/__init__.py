"""Drift of features, errors and data quality as add-only, mergeable state.

Pure: numpy and scipy only; time and settings come in as arguments, nothing here reads a clock or a file.
"""
