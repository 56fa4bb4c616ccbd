"""Data pipeline: DICOM files and reports in, batches of study pairs out."""
