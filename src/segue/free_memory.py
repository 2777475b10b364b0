"""How much memory a process may still take."""

import os
from pathlib import Path

GIB = 2.0**30


def memory_available(system: Path = Path("/")) -> float:
    """Return the GiB that a process may still take: the free memory of the system or of its container.

    Args:
        system: the folder with `proc` and `sys`.
    """
    limits = [float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))]
    meminfo, group = system / "proc/meminfo", system / "sys/fs/cgroup"
    if meminfo.exists():
        limits.append(1024.0 * _numbers(meminfo)["MemAvailable:"])
    limit, current = group / "memory.max", group / "memory.current"
    if limit.exists() and (text := limit.read_text().strip()).isdigit():
        used = int(current.read_text()) if current.exists() else 0
        cached = _numbers(group / "memory.stat").get("inactive_file", 0) if (group / "memory.stat").exists() else 0
        limits.append(max(float(int(text) - used + cached), 0.0))
    return min(limits) / GIB


def _numbers(file: Path) -> dict[str, int]:
    """Return the first number of each line by its first word."""
    lines = (line.split() for line in file.read_text().splitlines())
    return {line[0]: int(line[1]) for line in lines if len(line) > 1 and line[1].isdigit()}
