"""Training: the loop, its step and state, and what happens between steps."""
