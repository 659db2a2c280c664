"""From a trained module to a checked graph: export, preprocessing and decision, clean-up, verification, the twin."""
