"""Studies: runs of one experiment with several seeds and options, and their scores together."""
