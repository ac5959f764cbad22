"""Pure policies around a lineage of rollouts: allocation, level budget, continuous checks, off-policy gate."""
