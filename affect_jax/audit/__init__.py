"""Audit of a dataset before training: copies, leakage, conflicting and wrong labels, bad faces."""
