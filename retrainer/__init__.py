"""The retrainer: drift becomes a job, a job's model a challenger, and the evaluator's verdicts become decisions.

The rules (decisions, bake, triggers, holdout_gate) are pure; worker, runner, job and store are the thin shell.
"""

ACTOR = "retrainer"
"""Who gives the retrainer's commands, as the control record's history has it."""
