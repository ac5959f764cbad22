"""The sequential engine over a file or a frame: what `gauntlet analyze` and `gauntlet.analyze` do."""
