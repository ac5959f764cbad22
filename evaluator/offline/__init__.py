"""What commands and notebooks call: experiments, drift and plans from files and frames, without a service."""
