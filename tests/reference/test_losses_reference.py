"""The chunked loss and its gradient against the plain formula, differentiated by JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segue.training.update.losses import softmax_cross_entropy


def plain(query, items, bias, targets, weights, hidden):
    logits = jnp.where(hidden, -jnp.inf, (query @ items.T + bias).at[:, 0].set(-jnp.inf))
    surprise = -jax.nn.log_softmax(logits, axis=1)[jnp.arange(len(targets)), targets]
    return jnp.sum(jnp.where(weights > 0, weights * surprise, 0.0))


@pytest.mark.parametrize("share_hidden", [0.0, 0.4])
def test_loss_and_gradient_are_the_plain_formula(share_hidden):
    rng = np.random.default_rng(0)
    query = jnp.asarray(rng.standard_normal((24, 5), dtype=np.float32))
    items = jnp.asarray(rng.standard_normal((11, 5), dtype=np.float32))
    bias = jnp.asarray(rng.standard_normal(11, dtype=np.float32))
    targets = jnp.asarray(rng.integers(1, 11, 24), jnp.int32)
    weights = jnp.asarray(rng.integers(0, 2, 24), jnp.float32)
    hidden = jnp.asarray(rng.random((24, 11)) < share_hidden).at[jnp.arange(24), targets].set(False)
    ours = jax.value_and_grad(softmax_cross_entropy, (0, 1, 2))
    wanted = jax.value_and_grad(plain, (0, 1, 2))(query, items, bias, targets, weights, hidden)
    for chunk in (8, 24):
        got = ours(query, items, bias, targets, weights, None, hidden if share_hidden else None, chunk)
        np.testing.assert_allclose(got[0], wanted[0], rtol=1e-5)
        for a, b in zip(got[1], wanted[1], strict=True):
            np.testing.assert_allclose(a, b, atol=2e-5)
