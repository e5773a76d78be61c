"""How much entries matter: functions of weights, gradients, flow and activations. `strategies` gives them names."""

from .loss import gradients, grasp, movement, saliency
from .weights import channel_norm, lamp, magnitude, uniform

__all__ = ["channel_norm", "gradients", "grasp", "lamp", "magnitude", "movement", "saliency", "uniform"]
