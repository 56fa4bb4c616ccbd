"""From DICOM and reports to batches of study pairs."""
