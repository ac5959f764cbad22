"""When new models are asked for: facts, causes, requests, and the conditions that a request has to meet."""
