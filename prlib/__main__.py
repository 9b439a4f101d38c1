"""``python -m prlib``: the command line, imported as a module, so that processes which it starts find its functions."""

import signal
import sys

if __name__ == "__main__":
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # to be interrupted in silence while the imports take seconds
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # whatever the terminal cannot show
    try:
        from prlib.command_line import main
    except ValueError as error:  # what a file of the profiles says, before anything runs
        print(f"prlib: {error}", file=sys.stderr)
        sys.exit(2)
    signal.signal(signal.SIGINT, before)
    sys.exit(main())
