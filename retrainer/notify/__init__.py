"""Notifications: alerts and decisions told to people and systems, by severity, through a durable outbox.

Nothing waits for a delivery: whoever does not answer is tried again, and given up in the end.
"""
