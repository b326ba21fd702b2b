"""Presentation of results: claims, tables, figures and the page."""
