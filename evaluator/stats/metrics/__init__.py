"""Metrics by influence: each turns rows into per-unit terms whose difference estimates the effect."""
