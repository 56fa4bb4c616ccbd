"""The model that a run leaves in final/: saved, loaded, used on images and texts, exported."""
