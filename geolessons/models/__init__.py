"""The networks that the lessons move about."""

from geolessons.models.encoder import Encoder
from geolessons.models.mlp import mlp
from geolessons.models.multitask import MultiTask, swin, swin_tiny

__all__ = ["Encoder", "MultiTask", "mlp", "swin", "swin_tiny"]
