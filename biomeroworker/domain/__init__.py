"""What a run is made of: pure data and pure functions. Imported by every other package, imports none of them."""
