"""Their presentation: claims, tables, figures and the page."""
