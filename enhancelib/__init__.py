"""Paper notebooks that rerun themselves: the library under the notebooks.

Importing this package costs little beyond torch: torchvision, matplotlib, pandas and the widgets
are imported where they are used.
"""

from enhancelib import _compat

__version__ = "0.1.0"

_compat.install()
