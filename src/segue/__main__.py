"""`python -m segue` is the command `segue`, and this is where both begin."""

import gc


def main() -> None:
    """Run the command line, with what its modules make at the start out of the garbage collector's sight."""
    gc.disable()  # modules throw nothing away while they load: looking for it takes a tenth of the start
    from segue.cli.app import main as run

    gc.freeze()
    gc.enable()
    run()


if __name__ == "__main__":
    main()
