"""Synthetic hospitals: phantoms, DICOM files of different vendors, and reports."""
