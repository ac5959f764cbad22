"""Notifications: alerts and decisions sent to people and systems, by severity, through a durable outbox.

Nothing waits for a delivery: a target that does not answer is retried, and given up in the end.
"""
