"""What is counted in XLA's text of a program."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import forecast
from benchmarks.machine import installed

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
    assert forecast.size(shapes) == expected


def test_kernels_and_bytes_of_an_update():
    """The faces that are held count as the batch that is taken of them."""
    taken, conv = 10 + 10, 32 + 2 * 64
    product, summed, scattered = 12 + 32, 12 + 12, 16 + 4
    found = forecast.count(forecast.loop_of(TEXT), held=1000)
    assert found == (5, 2, taken + conv + product + summed + scattered, conv + product)


@pytest.mark.parametrize(("operations", "expected"), [(1e9, 2.0), (3e12, 4.0)])
def test_products_wait_for_memory_or_for_the_tensor_cores(operations, expected):
    second = forecast.BYTES_A_SECOND
    found = forecast.Counted(kernels=9, collectives=0, moved=2 * second, by_products=second)
    assert forecast.ideal(found, operations, a_second=1e12) == expected


def test_the_loop_of_a_compiled_program_is_found():
    """As this version of XLA writes it."""

    def doubled(value, _):
        return jnp.sin(value) * 2, None

    program = jax.jit(lambda value: jax.lax.scan(doubled, value, None, length=7)[0])
    text = program.lower(np.zeros((16, 16), np.float32)).compile().as_text()
    found = forecast.count(forecast.loop_of(text), held=1e9)
    assert found.kernels >= 1 and found.moved >= 2 * 16 * 16 * 4


@pytest.mark.skipif(installed("jax-cuda12-plugin"), reason="there is a compiler")
def test_without_a_compiler_it_says_what_to_install():
    with pytest.raises(SystemExit, match=r"pip install 'affect_jax\[cuda\]'"):
        forecast.main(["--quick"])
