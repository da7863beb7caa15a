"""The methods of `biomero.SlurmClient`, grouped by what they are about. Each group works on one `Deployment`."""
