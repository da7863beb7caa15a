"""The revisions of our own tables, oldest first. A revision's id is the number in the name of its module."""
