"""Figures that can be looked up: what ours costs, beside what it is compared with, measured in one run.

``make bench`` runs all of them, ``make bench ONLY=transfer`` one. Each benchmark is a module here with one function;
what has to run in the incumbent's own environment is a program in ``programs/``.
"""
