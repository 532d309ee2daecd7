import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trm.mixers.reference import gradients, relative_error, ssd_loop
from trm.mixers.kernels import ssd as module
from trm.mixers.kernels.ssd import QUADRATIC_MAX_LEN, chunked, decay_matrix, quadratic, ssd


def inputs_of(length, heads=2, headdim=3, groups=1, d_state=4, batch=2, dt=None, seed=0):
    """x, dt, A, B, C and dy, float64; dt uniform in (0, 1) where not given."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    if dt is None:
        dt = torch.rand(batch, length, heads, generator=generator, dtype=torch.float64)
    A = -torch.rand(heads, generator=generator, dtype=torch.float64) * 4 - 0.1
    shared = [normal(batch, length, groups, d_state) for _ in range(2)]
    return [normal(batch, length, heads, headdim), dt, A, *shared], normal(batch, length, heads, headdim)


def in_form(form):
    """`ssd` in the given form, whatever the length."""

    def apply(x, dt, A, B, C, chunk_size=4):
        u = (x * dt[..., None]).transpose(1, 2)
        log_decay = (dt * A).transpose(1, 2)
        return form(u, log_decay, B.transpose(1, 2), C.transpose(1, 2), chunk_size).transpose(1, 2)

    return apply


@pytest.mark.parametrize("form", [quadratic, chunked])
@given(
    length=st.integers(1, 20),
    per_group=st.integers(1, 3),
    groups=st.integers(1, 3),
    headdim=st.integers(1, 3),
    d_state=st.integers(1, 4),
    chunk_size=st.integers(1, 24),
)
@settings(max_examples=25, deadline=None)
def test_every_form_equals_the_loop_with_its_gradients(
    form, length, per_group, groups, headdim, d_state, chunk_size
):
    inputs, dy = inputs_of(length, per_group * groups, headdim, groups, d_state)
    computed = gradients(in_form(form), inputs, dy, chunk_size=chunk_size)
    for one, other in zip(computed, gradients(ssd_loop, inputs, dy), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("length", "form"), [(QUADRATIC_MAX_LEN, "quadratic"), (QUADRATIC_MAX_LEN + 1, "chunked")]
)
def test_the_length_chooses_the_form(length, form, monkeypatch):
    inputs, _ = inputs_of(length)
    used = []
    for name in ("quadratic", "chunked"):
        original = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, f=original, n=name: used.append(n) or f(*a))
    torch.testing.assert_close(ssd(*inputs, chunk_size=64), ssd_loop(*inputs))
    assert used[0] == form


def step_sizes(kind, batch, length, heads):
    generator = torch.Generator().manual_seed(5)
    uniform = torch.rand(batch, length, heads, generator=generator, dtype=torch.float64)
    if kind == "fast":
        return 5 + 15 * uniform
    return torch.where(uniform < 0.5, 1e-3, 20.0)


@pytest.mark.parametrize("form", [quadratic, chunked])
@pytest.mark.parametrize("kind", ["fast", "mixed"])
def test_float32_keeps_its_digits_where_decays_are_fast(form, kind):
    """Exponentials above the diagonal overflow here; float32 prefix sums lose digits of A's gradient."""
    inputs, dy = inputs_of(81, dt=step_sizes(kind, 2, 81, 2))
    expected = gradients(ssd_loop, inputs, dy)
    computed = gradients(in_form(form), [v.float() for v in inputs], dy, chunk_size=32)
    for one, other in zip(computed, expected, strict=True):
        assert relative_error(one, other) < 1e-5


def test_decay_matrix():
    matrix = decay_matrix(torch.tensor([-1.0, -2.0, -3.0]))
    exponents = torch.tensor([[0.0, 0, 0], [-2, 0, 0], [-5, -3, 0]])
    torch.testing.assert_close(matrix, exponents.exp().tril())
