"""Small data sets that are always there, and readers for larger ones that you have."""

from geolessons.data.cola import cola
from geolessons.data.digits import Split, digits
from geolessons.data.mnist import mnist
from geolessons.data.scenes import scenes

__all__ = ["Split", "cola", "digits", "mnist", "scenes"]
