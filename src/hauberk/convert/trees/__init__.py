"""Gradient-boosted trees: read from their native files by code of our own, written as one ONNX operator.

The libraries' own readers are C++ that was not written for files of an adversary, and the public converters need them
to load the file first. Here the admitted bytes are parsed in Python, every index and number is checked, and the library
is asked only afterwards, in a process of its own, whether the graph answers as it does.
"""
