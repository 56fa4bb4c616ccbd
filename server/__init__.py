"""The coordinator: the Flower ServerApp, rounds, aggregation, run folder."""
