"""The report's plots, as inline SVG."""
