"""Many histories at once, by the same network that steps one event at a time.

Knows: how users of like length share a scan. Equal to stepping each user alone (a law).
Does not know: ids, lists, policies.

Histories lie right-aligned, so that all users of a block end together; what stands before a user's
first position is emptied by its reset mark and leaves no trace.

    user a   . . . * e e e      * reads `start`, e an event, . is emptied at *
    user b   * e e e e e e
"""

import numpy as np

from segue.data.sequences import Sequences
from segue.model.backend import map_tree
from segue.model.network import Memory, Network, NetworkParams, Window
from segue.shapes import Bools, Floats, Times

USERS, STEPS = 256, 32


def encode_users(
    network: Network, params: NetworkParams, sequences: Sequences, wanted: Bools | None = None
) -> tuple[Memory, Floats]:
    """Return the memory of each user after all their events, and outputs along the way.

    Args:
        network: static settings.
        params: the weights.
        sequences: the histories.
        wanted: bool[event]; None wants none.

    Returns:
        Memory [user, ...], and float32[n, network.read_width]: for each wanted event, in order, the output of the state
        just before it.

    Cost: O(events); users are read in blocks of like length.
    """
    lengths = sequences.lengths
    wanted = np.zeros(len(sequences.items), bool) if wanted is None else wanted
    places = np.cumsum(wanted) - 1
    outputs = np.zeros((int(wanted.sum()), network.read_width), np.float32)
    memory: Memory = map_tree(np.array, network.empty(params, len(sequences)))
    order = np.argsort(lengths, kind="stable")
    for begin in range(0, len(order), USERS):
        users = order[begin : begin + USERS]
        block = network.empty(params, len(users))
        length = int(lengths[users].max()) + 1
        for t in range(0, length, STEPS):
            position = np.arange(t, min(t + STEPS, length))[:, None] - (length - 1 - lengths[users])
            window, event = window_of(sequences, users, position)
            block, output = network.scan(params, block, window)
            asked = (position >= 0) & (position < lengths[users])
            asked &= wanted[np.where(asked, event, 0)] if len(wanted) else False
            outputs[places[event[asked]]] = output[asked]

        def put(whole: Floats, part: Floats, users: Times = users) -> Floats:
            whole[users] = part
            return whole

        map_tree(put, memory, block)
    return memory, outputs


def window_of(sequences: Sequences, users: Times, position: Times) -> tuple[Window, Times]:
    """Return the positions of some users, and the event that comes after each position."""
    event = sequences.offsets[users] + position
    read = np.where(position > 0, event - 1, 0)
    first = position <= 0
    items = np.where(first, 0, sequences.items[read] if len(sequences.items) else 0).astype(np.int32)
    details, profiles = sequences.details, sequences.profiles
    if details is not None and len(details):
        details = np.where(first[..., None], 0, details[read]).astype(np.float32)
    if profiles is not None:
        profiles = np.broadcast_to(profiles[users], (*position.shape, profiles.shape[1]))
    window = Window(items, sequences.gaps_before(read, position > 1), first, first, details, profiles)
    return window, event
