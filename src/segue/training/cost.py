"""What a run costs before it is begun: operations of a target, bytes of memory.

Knows: how to count both from the settings, and how much memory this machine has left.
Does not know: how long an operation takes.
"""

from dataclasses import replace

from segue.config import Config
from segue.data.sequences.batches import windows_per_epoch
from segue.errors import TrainingError
from segue.free_memory import GIB, memory_available
from segue.model.backend import leaves
from segue.model.network import Network
from segue.training.trainer import UPDATES_PER_CALL
from segue.training.update.losses import LOGITS

#: Tables of float32 beside the weights: average, two moments, the best average so far, a gradient.
TABLES = 6
#: Arrays of [T, B, width] that a block keeps for its backward pass, about, and twice that at work.
KEPT_ARRAYS = 60


def operations_per_target(network: Network, classes: int) -> int:
    """Return the additions and multiplications of one target, forward and backward.

    Only products of matrices are counted: 2 for every weight forward, 4 backward. Elementwise work, the
    recurrence of `linear`, dropout, the optimiser and anything computed twice count as nothing.

    Args:
        network: with the sizes.
        classes: rows of the catalogue a target is compared with.

    Example:
        >>> from segue.model.cells import make_cell
        >>> operations_per_target(Network(make_cell("linear"), items=3417, width=128, depth=2), classes=3417)
        4786944
    """
    small = replace(network, items=1)
    matrices: int = sum(weights.size for path, weights in leaves(small.init(0)) if is_product(path, weights.ndim))
    return 6 * (matrices + classes * network.width)


def is_product(path: str, ndim: int) -> bool:
    """Say whether a parameter multiplies its input as a matrix; the item table and a convolution do not."""
    return ndim == 2 and path != "items" and not path.endswith(".conv")


def memory_needed(network: Network, config: Config, events: int) -> float:
    """Return the GiB that a run of these settings holds at its largest, about.

    Args:
        network: with the sizes.
        config: with no setting left to derive.
        events: of the log, held as rows, times, ratings and what each was like.
    """
    train = config.train
    assert train.batch_size is not None
    tables = TABLES - (1 if train.negatives else 0)  # a sampled update has no gradient of the whole table
    window = train.batch_size * train.bptt_steps * network.width * network.depth * KEPT_ARRAYS
    floats = tables * network.items * (network.width + 1) + 4 * network.items + window + 3 * LOGITS
    classes = 2 * train.negatives if train.negatives else network.items  # drawn, and the targets' own
    # A byte for each of what was had, of the windows of two calls, and of what is hidden at a position.
    had = train.batch_size * classes * (2 * UPDATES_PER_CALL + 2 * train.bptt_steps) if train.hides_seen else 0
    # Numbers of an event are float16, and twice there while they are put in order.
    log = (16.0 + 4.0 * network.details) * events
    return (4.0 * floats + had + log) / GIB + 0.4  # the compiler and the libraries


def check_memory(network: Network, config: Config, events: int, *, available: float | None = None) -> None:
    """Refuse a run that cannot fit, before it begins.

    Raises:
        TrainingError: with what it needs, what there is, and the settings that would fit.
    """
    room = memory_available() if available is None else available
    need = memory_needed(network, config, events)
    if need <= room:
        return
    fits = [
        width
        for width in (256, 128, 64, 32, 16, 8)
        if width < network.width and memory_needed(replace(network, width=width), config, events) <= room
    ]
    advice = f"--set model.width={fits[0]} fits" if fits else "no width fits: keep fewer items or a shorter log"
    raise TrainingError(
        f"expected a run that fits into {room:.1f} GiB of free memory, this one needs about {need:.1f} GiB for "
        f"{network.items:,} items x {network.width} and {events:,} events; {advice}."
    )


def describe(network: Network, config: Config, events: int) -> str:
    """Return in one line what a run will do: the network, the loss, the updates, the memory."""
    train = config.train
    assert train.batch_size is not None and train.epochs is not None
    updates = windows_per_epoch(events, train.batch_size, train.bptt_steps)
    loss = f"softmax over {f'{train.negatives:,} drawn' if train.negatives else f'all {network.items - 1:,}'} items"
    if network.rating:
        own = f"{network.rating.loss} loss of ratings"
        loss = own if train.task == "rating" else f"{loss}, {own}"
    rounded = "products of bfloat16; " if train.precision == "bfloat16" else ""
    return (
        f"{config.model.cell}, {network.depth} blocks of width {network.width}, {'' if network.clock else 'no '}clock; "
        f"{loss}; {rounded}{updates:,} update{'s' * (updates != 1)} a pass of {train.batch_size} x "
        f"{train.bptt_steps} targets, at most "
        f"{train.epochs} pass{'es' * (train.epochs > 1)}; about {memory_needed(network, config, events):.1f} of "
        f"{memory_available():.1f} GiB of free memory."
    )
