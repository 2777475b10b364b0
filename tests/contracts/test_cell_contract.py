"""Cells of Keras, its own and one of a user, keep the contract of cells."""

import pytest

from segue.interop import KerasCell
from segue.testing import CellContract
from tests_support import minimal_gated_cell


@pytest.fixture(params=["SimpleRNNCell", "GRUCell", "LSTMCell", "stacked", "own"], scope="module")
def keras_cell(keras, request):
    layers, width = keras.layers, CellContract.width
    if request.param == "stacked":
        return KerasCell(layers.StackedRNNCells([layers.SimpleRNNCell(4), layers.LSTMCell(width)]))
    kind = minimal_gated_cell(keras) if request.param == "own" else getattr(layers, request.param)
    return KerasCell(kind(width))


class TestKerasCell(CellContract):
    @pytest.fixture
    def cell(self, keras_cell):
        return keras_cell
