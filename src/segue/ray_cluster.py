"""Ray, which is an extra: how Segue imports Ray and joins a cluster.

Knows: addresses and the messages of what fails. Does not know: what runs there.
"""

import logging
import os
import socket
from typing import Any

from segue.errors import ArgumentError, DataError

#: Seconds that a cluster may take to answer.
ANSWER = 10.0
_QUIET: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}


def ray_for(option: str) -> Any:
    """Return the module `ray`, with those of data, training and utilities.

    Raises:
        ArgumentError: Ray cannot be imported; the message names the option that needs Ray.
    """
    try:
        import ray
        import ray.data
        import ray.train
        import ray.util
    except ImportError as error:
        raise ArgumentError(
            f"{option}: expected Ray, it cannot be imported ({error}). Run: pip install 'segue[ray]'."
        ) from None
    return ray


def join(ray: Any, address: str | None, **local: Any) -> None:
    """Join the cluster at an address, or start Ray on this machine.

    Args:
        ray: the module.
        address: HOST:PORT of a cluster, or auto for the one that this machine is a node of; None starts Ray here.
        local: arguments of `ray.init` where Ray starts here.

    Raises:
        ArgumentError: no cluster answers.
        DataError: Ray does not start here.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is None:
        try:
            ray.init(address="local", include_dashboard=False, **local, **_QUIET)
        except Exception as error:  # Ray raises no narrower one where its processes do not come up
            raise DataError(
                f"Ray: expected it to start on this machine, it did not ({_line(error)}). Try again when the machine "
                "is less busy, or go without Ray."
            ) from error
        return
    host, colon, port = address.rpartition(":")
    try:
        if address != "auto":  # Ray itself would ask for minutes
            socket.create_connection((host.rpartition("/")[2] or port, int(port) if colon else 6379), ANSWER).close()
        ray.init(address=address, **_QUIET)
    except (OSError, ValueError, RuntimeError) as error:
        raise ArgumentError(
            f"--address {address}: expected a Ray cluster, none answers ({_line(error)}). "
            "Start one (ray start --head), give its HOST:6379, or leave --address out to use this machine."
        ) from None


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
