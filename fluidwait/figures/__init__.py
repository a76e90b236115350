"""Figures as PNG and SVG, apart from the reports so that only drawing loads matplotlib."""
