"""Speed of ingest, of the manifest and of the loader of training pairs."""
