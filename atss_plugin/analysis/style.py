"""How every figure of the project looks."""

from contextlib import contextmanager

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402

# Okabe and Ito's palette, which colour-blind readers can tell apart, in print too; without yellow, as paper is white.
PALETTE = ('#0072B2', '#E69F00', '#009E73', '#CC79A7', '#56B4E9', '#D55E00', '#7F7F7F', '#000000')
ALARM = '#E3000F'
GREY = '#6E6E6E'
LIGHT = '#D9D9D9'
STYLE = {
    'font.family': 'DejaVu Sans',
    'font.size': 9,
    'axes.titlesize': 9.5,
    'axes.titleweight': 'bold',
    'axes.titlelocation': 'left',
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.edgecolor': GREY,
    'axes.grid': True,
    'grid.color': '#ECECEC',
    'grid.linewidth': 0.8,
    'axes.axisbelow': True,
    'xtick.color': '#404040',
    'ytick.color': '#404040',
    'legend.frameon': False,
    'lines.linewidth': 1.8,
    'figure.dpi': 110,
    'savefig.dpi': 110,
    'axes.labelcolor': '#202020',
}


@contextmanager
def figure(*args, **kwargs):
    """Yield a figure and its axes (``plt.subplots``) in the project's style, and close the figure at the end."""
    with plt.rc_context(STYLE):
        fig, axes = plt.subplots(*args, **kwargs)
        try:
            yield fig, axes
        finally:
            plt.close(fig)
