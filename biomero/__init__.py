"""Names that code written for biomero imports."""
