"""From georeferenced scenes to So2Sat's form: cutting into patches, dividing into splits."""
