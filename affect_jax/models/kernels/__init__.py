"""How convolutions are computed on which backend. The sums are the same in every form."""
