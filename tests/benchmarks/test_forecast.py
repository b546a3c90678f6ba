"""Counts kernels and bytes in the text of a compiled program."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import forecast
from benchmarks.harness import is_installed

TEXT = """
%body (arg: (s32[], bf16[8,4])) -> (s32[], bf16[8,4]) {
  %arg = (s32[], bf16[8,4]{1,0}) parameter(0)
  %rows = bf16[8,4]{1,0} get-tuple-element(%arg), index=1
  %faces = u8[100,2,5]{2,1,0} get-tuple-element(%arg), index=2
  %four = f32[4]{0} get-tuple-element(%arg), index=3
  %taken = u8[2,5]{1,0} fusion(%faces), kind=kLoop, calls=%some
  %conv = (bf16[8,2]{1,0}, u8[0]{0}) custom-call(%rows, %rows), custom_call_target="conv"
  %product = f32[3]{0} fusion(%conv), backend_config={"kind":"__triton_nested_gemm_fusion"}
  %sum = f32[3]{0} all-reduce-start(%product), to_apply=%add
  %done = f32[3]{0} all-reduce-done(%sum)
  %scattered = (f32[4]{0}, f32[1]{0}) reduce-scatter-start(%four), to_apply=%add
  ROOT %out = (s32[], bf16[8,4]{1,0}) tuple(%arg, %rows)
}

ENTRY %main (p: bf16[8,4]) -> bf16[8,4] {
  %p = bf16[8,4]{1,0} parameter(0)
  %while = (s32[], bf16[8,4]{1,0}) while(%p), condition=%cond, body=%body
}
"""


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [("bf16[2,3]{1,0}", 12), ("(f32[4]{0}, u8[0]{0}, pred[])", 17), ("token[]", 0)],
)
def test_bytes_of_shapes(shapes, expected):
    assert forecast.size_in_bytes(shapes) == expected


def test_kernels_and_bytes_of_an_update():
    """The array of all faces counts as the batch that is read from it."""
    batch, conv = 10 + 10, 32 + 2 * 64
    product, summed, scattered = 12 + 32, 12 + 12, 16 + 4
    counts = forecast.count_kernels(forecast.loop_body(TEXT), face_bytes=1000)
    assert counts == (5, 2, batch + conv + product + summed + scattered, conv + product)


@pytest.mark.parametrize(("num_flops", "expected"), [(1e9, 2.0), (3e12, 4.0)])
def test_products_are_bound_by_memory_or_compute(num_flops, expected):
    second = forecast.BYTES_PER_SECOND
    counts = forecast.Counts(kernels=9, collectives=0, bytes=2 * second, product_bytes=second)
    assert forecast.ideal_seconds(counts, num_flops, flops_per_second=1e12) == expected


def test_loop_body_of_a_compiled_program():
    """In the format of the installed XLA."""

    def double_sine(value, _):
        return jnp.sin(value) * 2, None

    function = jax.jit(lambda value: jax.lax.scan(double_sine, value, None, length=7)[0])
    text = function.lower(np.zeros((16, 16), np.float32)).compile().as_text()
    counts = forecast.count_kernels(forecast.loop_body(text), face_bytes=1e9)
    assert counts.kernels >= 1 and counts.bytes >= 2 * 16 * 16 * 4


@pytest.mark.skipif(is_installed("jax-cuda12-plugin"), reason="the compiler is installed")
def test_missing_compiler_names_the_package_to_install():
    with pytest.raises(SystemExit, match=r"pip install 'affect_jax\[cuda\]'"):
        forecast.main(["--quick"])
