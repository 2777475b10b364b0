"""Which snapshots of a state to keep along a user's log."""

from collections.abc import Sequence


def thin(counts: Sequence[int], end: int) -> list[int]:
    """Return the counts to keep: few, and denser towards the end.

    A snapshot is dropped when its older and its newer neighbour are no further apart than the newer
    neighbour is from the end. So at most 2 log2(end) + 2 snapshots stay. A replay for an event that
    comes late by n events reads at most 2 n events, or the first spacing if that is more.

    Args:
        counts: of events at each snapshot, ascending.
        end: events in the log, at least the last count.

    Example:
        >>> kept = []
        >>> for count in range(1, 1001):
        ...     kept = thin([*kept, count], count)
        >>> kept
        [1, 257, 513, 641, 769, 833, 897, 929, 961, 977, 985, 989, 993, 995, 997, 998, 999, 1000]
    """
    if len(counts) < 3:
        return list(counts)
    kept = [counts[-1]]
    for older, this in zip(reversed(counts[:-2]), reversed(counts[1:-1]), strict=True):
        if kept[-1] - older > end - kept[-1]:
            kept.append(this)
    return [counts[0], *reversed(kept)]
