"""Certified bounds: for which records no point of the threat model changes the answer, proved and not searched for.

`figures` is plain data and light to import; the rest needs torch.
"""
