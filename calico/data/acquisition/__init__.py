"""From the publishers' files to the folders that the readers expect: manifest, download, unpacking."""
