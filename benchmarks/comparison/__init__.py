"""The parts of `benchmarks/compression.py`: what is compared, how it is timed, what is concluded, how it is shown."""
