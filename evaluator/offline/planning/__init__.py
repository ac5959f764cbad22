"""Planning a test before its first row, and trying it on simulated outcomes."""
