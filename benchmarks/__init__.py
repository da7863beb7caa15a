"""Benchmarks: measure biomeroworker and the programs that it is compared with, in one run.

``make bench`` runs all of them, ``make bench ONLY=transfer`` one. Each benchmark is a module here with one
function. Code that runs in the Python environment of biomero 2.8.3 (the incumbent) is a program in ``programs/``.
"""
