"""Contract tests, for parts that are made outside of Segue too.

Knows: what every store, every index and every cell must do. Needs pytest, and JAX for cells.
Does not know: how one is made; that is the one method to write.

    class TestMyStore(StoreContract):
        def open_store(self, folder):
            return MyStore(folder / "store")
"""

from segue.testing.cells import CellContract
from segue.testing.index import IndexContract
from segue.testing.store import StoreContract

__all__ = ["CellContract", "IndexContract", "StoreContract"]
