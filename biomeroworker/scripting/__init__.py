"""What people call on a `SlurmClient` from shells and scripts, under the names that they know from biomero.

Each method is one question to the cluster, or none. Nothing that a user gives meets a shell unquoted. What has no
meaning any more is in `dropped`, and says what to use instead.
"""
