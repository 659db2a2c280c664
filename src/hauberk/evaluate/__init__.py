"""What a model is worth: quality, latency, footprint and robustness, each a `Measurement` with its interval."""
