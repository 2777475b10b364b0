"""What several folders need."""

import hypothesis
import pytest

hypothesis.settings.register_profile("any machine", deadline=None)  # a law is not a timing
hypothesis.settings.load_profile("any machine")


@pytest.fixture(scope="session")
def keras(tmp_path_factory):
    """Keras on JAX."""
    # Both are read once, while Keras is imported. Its home is a file of defaults, which would override the float32.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "jax")
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
        keras = pytest.importorskip("keras")
    assert keras.backend.backend() == "jax"
    return keras
