"""HSTU of RecTools: attention with a bias by the time between events, that of the question among them."""

from functools import partial

from common import guarded
from peer_rectools import train
from rectools.models import HSTUModel

SETTINGS = {
    # A tenth of the work for a target that 200 events ask for, and four times as many updates as batches of 128 users
    # make: in the time given it learns more.
    "session_max_len": 50,
    "batch_size": 32,
    # As its authors have it; with plain products it stayed below a third of this.
    "similarity_module_kwargs": {"distance": "cosine"},
    "lightning_module_kwargs": {"logits_t": 0.05},
}

if __name__ == "__main__":
    guarded(partial(train, kind=HSTUModel, **SETTINGS))
