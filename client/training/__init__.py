"""A site's tasks: describe, train, evaluate, rehearse, and what is kept between rounds."""
