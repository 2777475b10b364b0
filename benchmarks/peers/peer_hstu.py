"""HSTU of RecTools: attention with a bias by the time between events, that of the question among them."""

from functools import partial

from common import guarded
from peer_rectools import train
from rectools.models import HSTUModel

if __name__ == "__main__":
    # Four times as many updates as its usual batches of 128 users make: in the time given it learns more.
    guarded(partial(train, kind=HSTUModel, batch_size=32))
