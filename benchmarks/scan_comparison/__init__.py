"""The parts of `benchmarks/scan.py`: the scanners and how they are asked, what is timed, who catches what, tables."""
