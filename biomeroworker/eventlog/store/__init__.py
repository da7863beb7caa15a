"""Tables that are written in the same transactions as the events, and the recorder that writes them."""
