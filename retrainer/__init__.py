"""The retrainer: drift becomes a job, a job's model a challenger, and the evaluator's verdicts become decisions.

The rules (decide, triggers, compare) are pure; worker, job and store are the thin shell around them.
"""
