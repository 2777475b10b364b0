"""What several files of this folder need."""

import pytest


@pytest.fixture
def write(tmp_path):
    def put(content, name="clicks.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return put
