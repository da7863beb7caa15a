"""Commands and files to and from a cluster's front-end: the `Transport` protocol, and OpenSSH behind it."""
