"""Site file, dataset, list of withdrawn patients, base models and final models."""
