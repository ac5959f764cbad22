"""The running evaluator: joins predictions and outcomes, accumulates them, judges rollouts, watches the champion."""
