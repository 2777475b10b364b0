"""Contract tests for stores, indexes and cells, also for those that are made outside of Segue.

Knows: what every store, index and cell must do. Needs pytest, and JAX for cells.
Does not know: how a store, index or cell is made. A test class writes that single method:

    class TestMyStore(StoreContract):
        def open_store(self, folder):
            return MyStore(folder / "store")
"""

from segue.testing.cells import CellContract
from segue.testing.index import IndexContract
from segue.testing.store import StoreContract

__all__ = ["CellContract", "IndexContract", "StoreContract"]
