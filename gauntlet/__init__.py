"""Gauntlet: a streaming champion/challenger router with online A/B evaluation for machine-learning models."""

__version__ = "0.1.0"
