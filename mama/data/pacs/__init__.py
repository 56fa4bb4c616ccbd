"""Studies of an archive (PACS), pulled by DICOMweb into the folder that ingest reads."""

from mama.data.pacs.pull import Pulled, pull

__all__ = ["Pulled", "pull"]
