"""Compiled programs, kept between runs in a folder which others cannot write to."""

import logging
from typing import Any

import jax

from segue.errors import SegueError
from segue.files import cache_folder
from segue.kernels.private_folder import private_folder

logger = logging.getLogger("segue")


def keep_compiled() -> None:
    """Let JAX keep compiled programs in the cache folder, so that a second run starts at once.

    JAX's own settings go first: `JAX_COMPILATION_CACHE_DIR`, `JAX_ENABLE_COMPILATION_CACHE=0`.
    """
    config: Any = jax.config  # its attributes are made at run time
    if config.jax_compilation_cache_dir is None and config.jax_enable_compilation_cache:
        try:
            folder = private_folder(cache_folder() / "compiled")
        except (OSError, SegueError) as error:
            logger.warning(
                "Compiled programs are not kept: %s. Each run compiles anew; SEGUE_CACHE names a folder.", error
            )
            return
        config.update("jax_compilation_cache_dir", str(folder))
