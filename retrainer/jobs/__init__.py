"""How a new model comes about: one job in a process of its own, from rows to a registered version."""
