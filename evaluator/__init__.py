"""The evaluator: joins predictions with late outcomes, tests the arms against each other, and watches for drift."""
