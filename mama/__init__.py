"""MaMA: multi-view and multi-scale alignment of mammograms and reports. Knows nothing of Flower."""

import os
import sys

# OpenMP threads that spin while they wait cost 4 times the processor time on a busy machine (docs/results.md).
# It is read when torch is first imported, which nothing does before this package.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# GDCM first asks for modules that Python 3 no longer has: a folder of their names where a command is run would pass for
# them.
sys.modules |= dict.fromkeys(("dl", "DLFCN") - sys.modules.keys())  # type: ignore[arg-type]
