"""DICOM files: headers, pixels, and the reasons not to use one."""
