"""Build the site into `site/`: `python docs/tools/build.py`. Any warning of any tool ends it with 1.

Knows: that Zensical counts its own warnings, and prints those of mkdocstrings without counting them.
Does not know: what is on the pages.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

TOOLS = Path(__file__).parent
ROOT = TOOLS.parents[1]
#: How the tools below Zensical begin a warning.
WARNING = re.compile(r"^(?:griffe|mkdocstrings|mkdocs_autorefs|autorefs)\b", re.MULTILINE)


def main() -> int:
    """Make the generated pages, then the site; return 0 where nothing was wrong."""
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(TOOLS), os.environ.get("PYTHONPATH")))),
        "NO_COLOR": "1",
    }
    subprocess.run([sys.executable, TOOLS / "generate.py"], check=True, cwd=ROOT)
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    done = subprocess.run(
        command, check=False, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    said = done.stdout if done.returncode == 0 else done.stdout.partition("Traceback")[0]
    print(re.sub(r"\x1b\[[\d;]*m", "", said))
    return done.returncode or int(bool(WARNING.search(said)))


if __name__ == "__main__":
    sys.exit(main())
