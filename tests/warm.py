"""What kernels of tests find ready when they are forked: published records, read, and the book's redraws, fitted.

Both are cached by all that they are made of, so that a chapter that finds them shows what it would have shown.
"""

from prlib.data import DATASETS
from prlib.pages.records import committed
from prlib.profiles import default_defence

committed("published")
for dataset in DATASETS:
    for name in ("pr", "pr-multi"):
        default_defence(name, dataset).build()
