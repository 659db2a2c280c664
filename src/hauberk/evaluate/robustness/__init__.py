"""The robustness protocol: every candidate is attacked as it is deployed, and the worst case per record counts.

`figures` is plain data and light to import; `protocol` runs the attacks and needs torch.
"""
