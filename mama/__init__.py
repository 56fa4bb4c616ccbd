"""MaMA: multi-view and multi-scale alignment of mammograms and reports. Knows nothing of Flower."""
