"""Many histories at once, through the network that also steps one event at a time.

Users of similar length share a scan; the result equals stepping each user alone (a law). Histories
are right-aligned, so that all users of a block end together. A window reads the users who begin
before its end; the reset mark at a user's first position clears whatever the window held before.

    user a         . * e e e    * reads `start`, e an event, . is emptied at *
    user b   * e e e e e e e
"""

from functools import partial

import numpy as np

from segue.data.sequences.sequences import Sequences
from segue.model.backend import map_tree
from segue.model.network import Memory, Network, NetworkParams, Window
from segue.shapes import Bools, Floats, Times

#: Users of a block, and positions of a window at most.
USERS, STEPS = 256, 32
#: Numbers of a window of the network's width: what lies between two products stays in the cache.
NUMBERS = 2**18


def encode_users(
    network: Network, params: NetworkParams, sequences: Sequences, wanted: Bools | None = None
) -> tuple[Memory, Floats]:
    """Return the memory of each user after all their events, and outputs along the way.

    Args:
        network, params: settings and weights.
        sequences: the histories.
        wanted: bool[event]; None wants none.

    Returns:
        Memory [user, ...], and float32[n, network.read_width]: for each wanted event, in order, the
        output of the state just before it.

    Cost: O(events); users are read in blocks of like length. What lies behind the last cell is made for wanted events
    alone.
    """
    lengths = sequences.lengths
    wanted = np.zeros(len(sequences.items), bool) if wanted is None else wanted
    places = np.cumsum(wanted) - 1
    outputs = np.zeros((int(wanted.sum()), network.read_width), np.float32)
    memory: Memory = map_tree(np.array, network.empty(params, len(sequences)))
    order = np.argsort(lengths, kind="stable")
    for begin in range(0, len(order), USERS):
        users = order[begin : begin + USERS]  # the shortest first
        block: Memory = map_tree(np.array, network.empty(params, len(users)))
        length = int(lengths[users[-1]]) + 1
        begins = length - 1 - lengths[users]
        t = 0
        while t < length:
            soon = int((begins < t + STEPS).sum())
            stop = min(t + max(1, min(STEPS, NUMBERS // (soon * network.width))), length)
            late = int((begins >= stop).sum())
            begun = users[late:]
            position = np.arange(t, stop)[:, None] - begins[late:]
            window, event = window_of(sequences, begun, position)
            kept = (position >= 0) & (position < lengths[begun])
            kept &= wanted[np.where(kept, event, 0)] if len(wanted) else False
            chosen = kept | (np.arange(t, stop) == length - 1)[:, None]  # the last output is part of the memory
            before = map_tree(lambda part, late=late: part[late:], block)
            read, output = network.scan(params, before, window, chosen=chosen)
            map_tree(partial(_put, at=slice(late, None)), block, read)
            outputs[places[event[kept]]] = output[kept]
            t = stop
        map_tree(partial(_put, at=users), memory, block)
    return memory, outputs


def _put(whole: Floats, part: Floats, at: slice | Times) -> Floats:
    whole[at] = part
    return whole


def window_of(sequences: Sequences, users: Times, position: Times) -> tuple[Window, Times]:
    """Return positions of users as a window, and the event after each position."""
    event = sequences.offsets[users] + position
    read = np.where(position > 0, event - 1, 0)
    first = position <= 0
    items = np.where(first, 0, sequences.items[read] if len(sequences.items) else 0).astype(np.int32)
    details, profiles = sequences.details, sequences.profiles
    if details is not None:
        known = details[read] if len(details) else np.zeros((1, details.shape[1]))
        details = np.where(first[..., None], 0, known).astype(np.float32)
    if profiles is not None:
        profiles = np.broadcast_to(profiles[users], (*position.shape, profiles.shape[1]))
    window = Window(items, sequences.gaps_before(read, position > 1), first, first, details, profiles)
    return window, event
