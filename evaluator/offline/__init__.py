"""The file tools: experiments, drift and plans from files and frames, without a service; `api` has what users call."""
