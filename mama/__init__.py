"""MaMA: multi-view and multi-scale alignment of mammograms and reports. Knows nothing of Flower."""

import sys

# GDCM first asks for modules that Python 3 no longer has; without these entries a folder of that
# name in the working directory would pass for one.
sys.modules |= dict.fromkeys(("dl", "DLFCN") - sys.modules.keys())  # type: ignore[arg-type]
