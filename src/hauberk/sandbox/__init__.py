"""Processes that cannot take more than they were given: limits on resources, and workers that live under them.

`limits` sets the limits and proves that this kernel keeps them; `worker` starts a process under limits, asks it things
and kills it when it takes too long. Nothing here knows what a worker computes.
"""
