"""One module for each framework that runs in an isolated process: `load(setup)` returns what is converted and asked.

These modules are imported in that process only, never by the command itself.
"""
