"""law: a scan equals the steps, a reset equals a fresh start, NumPy equals JAX, for every cell of Segue."""

import pytest

from segue.model.cells import CELLS, SimpleRNN, make_cell
from segue.testing import CellContract

EVERY = [make_cell(name) for name in CELLS] + [SimpleRNN("relu"), SimpleRNN("leaky_relu")]


class TestEveryLawOfEveryCell(CellContract):
    @pytest.fixture(params=EVERY, ids=str)
    def cell(self, request):
        return request.param
