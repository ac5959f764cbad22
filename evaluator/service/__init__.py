"""The evaluator's process: joins predictions and outcomes, evaluates rollouts, monitors the champion's drift."""
