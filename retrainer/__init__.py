"""The retrainer: drift becomes a job, a job's model a challenger, and the evaluator's verdicts become decisions.

The rules are pure: `triggers` (when a job is asked for), `decisions` and `bake` (what a verdict asks for), and the gate
in `jobs`. The shell: `worker` turns the loop, `runner` runs a job of `jobs` in a process of its own, `store` keeps what
is durable, `api` answers people and programs, `records` and `notify` tell others.
"""

ACTOR = "retrainer"
"""Who gives the retrainer's commands, as the control record's history has it."""
