"""Run a bert4keras script of 2020-2023 on Keras 3, unchanged.

python -m keras_extras.bert4keras script.py [arguments of the script]
"""

from __future__ import annotations

import os
import runpy
import sys


def main(arguments: list[str]) -> None:
    """Run ``arguments[0]`` as the main program, with the rest as its arguments."""
    if not arguments:
        sys.exit(__doc__)
    if arguments[0] in ("-h", "--help"):
        print(__doc__)
        return
    script = arguments[0]
    if not os.path.isfile(script):
        sys.exit(f"{script} is no file: give the path of a script. {__doc__}")
    from keras_extras.bert4keras import legacy

    try:
        legacy.apply()
    except RuntimeError as error:
        sys.exit(str(error))
    sys.argv = arguments
    sys.path.insert(0, os.path.dirname(os.path.abspath(script)))
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
