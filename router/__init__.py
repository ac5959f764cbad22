"""The router: an async inference service that splits live traffic between champion and challenger and records it."""
