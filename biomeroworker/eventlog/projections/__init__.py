"""From events to the rows that dashboards and lists read."""
