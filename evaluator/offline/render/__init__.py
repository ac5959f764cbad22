"""The report kit: results in, text and HTML out."""
