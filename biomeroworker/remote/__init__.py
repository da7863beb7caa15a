"""The programs that run on the cluster: standard library (and numpy), Python 3.6 or later.

They are copied or sent there as text, so they import nothing of this package.
"""
