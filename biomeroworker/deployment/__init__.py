"""One deployment of biomeroworker: the parts that its configuration names, put together."""
