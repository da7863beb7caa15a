"""Commands (`omero.cmd`): requests that run in the background, and what each of them does.

`handle` runs one request and answers for it; the other modules hold a function per kind of request, found by
`registry.find`.
"""
