"""`gauntlet compare`: a champion and a challenger on the same held-out rows, and whether the challenger is promoted."""
