"""A federation's folder: file, certificates, roster."""
