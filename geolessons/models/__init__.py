"""The networks that the lessons move about."""

from geolessons.models.mlp import mlp

__all__ = ["mlp"]
