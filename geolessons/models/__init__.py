"""The networks that the lessons move about."""

from geolessons.models.encoder import Encoder
from geolessons.models.mlp import mlp

__all__ = ["Encoder", "mlp"]
