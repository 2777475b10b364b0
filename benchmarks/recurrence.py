"""Which form of the linear recurrence is fastest here: a loop, an associative scan, or chunks.

    python benchmarks/recurrence.py [--json] [--out FILE]

`s_t = a_t s_{t-1} + b_t` over 8,192 positions x 128 channels, cut into lanes of T steps; forward and
gradient, the best of some calls, for each T. All forms give the same numbers (checked here).
"""

import argparse
import json
import os
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from timing import best_seconds

POSITIONS, WIDTH = 8192, 128


def loop(a, b):
    def one(s, now):
        s = now[0] * s + now[1]
        return s, s

    return lax.scan(one, jnp.zeros_like(b[0]), (a, b))[1]


def associative(a, b):
    return lax.associative_scan(lambda x, y: (x[0] * y[0], y[0] * x[1] + y[1]), (a, b))[1]


def chunks(a, b, size=16):
    """Scan inside all chunks at once, then carry the state from chunk to chunk."""
    if len(a) % size:
        return loop(a, b)
    shape = (len(a) // size, size, *a.shape[1:])
    a, b = (x.reshape(shape).swapaxes(0, 1) for x in (a, b))

    def inside(carried, now):
        product, s = carried
        product, s = now[0] * product, now[0] * s + now[1]
        return (product, s), (product, s)

    _, (products, partial) = lax.scan(inside, (jnp.ones_like(a[0]), jnp.zeros_like(a[0])), (a, b))
    ends = loop(products[-1], partial[-1])
    before = jnp.concatenate([jnp.zeros_like(ends[:1]), ends[:-1]])
    return (products * before + partial).swapaxes(0, 1).reshape(-1, *shape[2:])


FORMS = {"loop": loop, "associative scan": associative, "chunks of 16": chunks}


def milliseconds(form, a, b) -> float:
    def total(a, b):
        return jnp.sum(form(a, b) ** 2)

    return round(1e3 * best_seconds(jax.jit(jax.grad(total, (0, 1))), a, b), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    rng = np.random.default_rng(0)
    found = {"date": time.strftime("%Y-%m-%d"), "cores": os.cpu_count(), "jax": jax.__version__, "milliseconds": {}}
    for steps in (8, 64, 512, 4096):
        shape = (steps, POSITIONS // steps, WIDTH)
        a = jnp.asarray(rng.uniform(0.5, 0.999, shape).astype(np.float32))
        b = jnp.asarray(rng.standard_normal(shape, dtype=np.float32))
        for form in FORMS.values():
            np.testing.assert_allclose(form(a, b), loop(a, b), atol=1e-3)
        found["milliseconds"][steps] = {name: milliseconds(form, a, b) for name, form in FORMS.items()}
    text = json.dumps(found)
    if asked.out:
        asked.out.write_text(text + "\n")
    if asked.json:
        print(text)
        return
    print("steps".rjust(6), *(name.rjust(18) for name in FORMS))
    for steps, row in found["milliseconds"].items():
        print(str(steps).rjust(6), *(f"{row[name]:15.3f} ms" for name in FORMS))


if __name__ == "__main__":
    main()
