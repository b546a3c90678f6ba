"""Convolution algorithms per backend. All of them compute the same sums."""
