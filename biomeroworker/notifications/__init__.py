"""Notifications about ended runs: an e-mail if the request has an address, a webhook for each run."""
