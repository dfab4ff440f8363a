"""Small data sets that are always there, and readers for larger ones that you have."""

from geolessons.data.digits import Split, digits
from geolessons.data.mnist import mnist

__all__ = ["Split", "digits", "mnist"]
