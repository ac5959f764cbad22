"""The retrainer: drift becomes a job, a job's model a challenger, and the evaluator's verdicts become decisions.

The rules (policy, triggers, holdout_gate) are pure; worker, runner, job and store are the thin shell around them.
"""
