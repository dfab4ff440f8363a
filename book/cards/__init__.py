"""The cards of the book: one file each, a class with `draw` and `alt` for `geolessons.widgets.sweep`."""
