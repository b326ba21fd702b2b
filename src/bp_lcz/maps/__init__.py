"""A map of local climate zones from the scenes of a city: the cells, the files that other tools read, the page."""
