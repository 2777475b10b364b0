"""The cost of a run before it begins: operations of a target, bytes of memory."""

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

    Only matrix products are counted: 2 operations for every weight forward, 4 backward. Elementwise
    work, the recurrence of `linear`, dropout, the optimiser and anything computed twice are left
    out.

    Args:
        classes: rows of the catalogue that a target is compared with.

    Example:
        >>> from segue.model.cells import make_cell
        >>> operations_per_target(Network(make_cell("linear"), items=3417, width=128, depth=2), classes=3417)
        4786944
    """
    small = replace(network, items=1)
    matrices: int = sum(weights.size for path, weights in leaves(small.init(0)) if is_product(path, weights.ndim))
    return 6 * (matrices + classes * network.width)


def is_product(path: str, ndim: int) -> bool:
    """Say whether a parameter is a matrix of products: not the item table, not a convolution."""
    return ndim == 2 and path != "items" and not path.endswith(".conv")


def memory_needed(network: Network, config: Config, events: int) -> float:
    """Return the peak memory in GiB, about, of a run with no setting left to derive.

    `events` are held as rows, times, ratings and event features.
    """
    train = config.train
    assert train.batch_size is not None
    tables = TABLES - (1 if train.negatives else 0)  # a sampled update has no gradient of the whole table
    window = train.batch_size * train.bptt_steps * network.width * network.depth * KEPT_ARRAYS
    floats = tables * network.items * (network.width + 1) + 4 * network.items + window + 3 * LOGITS
    classes = 2 * train.negatives if train.negatives else network.items  # drawn and touched ones
    # A byte for each seen item, of the windows of two calls, and for each hidden class.
    seen = train.batch_size * classes * (2 * UPDATES_PER_CALL + 2 * train.bptt_steps) if train.hides_seen else 0
    # Event features are float16, and there are two copies while they are sorted.
    log = (16.0 + 4.0 * network.details) * events
    return (4.0 * floats + seen + log) / GIB + 0.4  # the compiler and the libraries


def check_memory(network: Network, config: Config, events: int, *, available: float | None = None) -> None:
    """Refuse a run that does not fit into memory, before it begins.

    Raises:
        TrainingError: it does not fit; the message names the width that would.
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
        f"expected a run that fits into {room:.1f} GiB of free memory, this run needs about {need:.1f} GiB for "
        f"{network.items:,} items x {network.width} and {events:,} events; {advice}."
    )


def training_line(config: Config, events: int) -> str:
    """Return the line to print before training begins.

    Example:
        >>> from segue.config import configure
        >>> training_line(configure({"train.epochs": 35, "train.batch_size": 64}), 145_920)
        'Training for up to 35 epochs (285 updates each). Details: `segue info`.'
    """
    train = config.train
    assert train.batch_size is not None and train.epochs is not None
    updates = windows_per_epoch(events, train.batch_size, train.bptt_steps)
    epochs = f"{train.epochs} epoch{'s' * (train.epochs > 1)}"
    return f"Training for up to {epochs} ({updates:,} update{'s' * (updates != 1)} each). Details: `segue info`."


def describe(network: Network, config: Config, events: int) -> str:
    """Return a run in one line for `segue info`: the network, the loss, the updates, the memory."""
    train = config.train
    loss = f"softmax over {f'{train.negatives:,} drawn' if train.negatives else f'all {network.items - 1:,}'} items"
    if network.rating:
        of_ratings = f"{network.rating.loss} loss of ratings"
        loss = of_ratings if train.task == "rating" else f"{loss}, {of_ratings}"
    return (
        f"{config.model.cell}, {network.depth} block{'s' * (network.depth > 1)} of width {network.width}, "
        f"{'with' if network.clock else 'without'} time features; {loss}; matrix products in {train.precision}; "
        f"updates of {train.batch_size} x {train.bptt_steps} targets; "
        f"about {memory_needed(network, config, events):.1f} GiB of memory"
    )
