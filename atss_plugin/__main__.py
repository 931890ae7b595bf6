"""``python -m atss_plugin``: the command line of :mod:`atss_plugin.cli`."""

import sys

from atss_plugin.cli import main

if __name__ == '__main__':
    sys.exit(main())
