"""What `benchmarks/robustness.py` is made of: detectors under attack, the judgement of targets, the page."""
