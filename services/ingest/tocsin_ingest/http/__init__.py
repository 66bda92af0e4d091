"""What other systems already speak: each format is a file with a `decode` and a row in `routes.FORMATS`."""
