"""Compiled programs, kept between runs.

Knows: where JAX keeps them, and that a choice of the user's own is left alone.
Does not know: what is compiled.
"""

from typing import Any

import jax

from segue.data.datasets import cache_folder


def keep_compiled() -> None:
    """Let JAX keep its compiled programs in the cache folder, unless it was told where, or not to.

    A second run of the same shapes then begins to learn at once. JAX's own setting is
    `JAX_COMPILATION_CACHE_DIR`, and `JAX_ENABLE_COMPILATION_CACHE=0` turns it off.
    """
    config: Any = jax.config  # its attributes are made at run time
    if config.jax_compilation_cache_dir is None and config.jax_enable_compilation_cache:
        config.update("jax_compilation_cache_dir", str(cache_folder() / "compiled"))
