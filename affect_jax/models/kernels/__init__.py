"""How convolutions are computed on each backend. README.md lists what each algorithm gives.

Networks use `kernels.convolution` alone. With `lax.conv_general_dilated` in its place they compute
the same values.
"""

from affect_jax.models.kernels.convolutions import convolution

__all__ = ["convolution"]
