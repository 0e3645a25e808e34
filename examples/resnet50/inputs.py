"""Four photographs for ResNet-50: square crops of the two that scikit-learn carries, normalised as for ImageNet."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_sample_images

SIZE = 224
MEAN = np.array([0.485, 0.456, 0.406])
STD = np.array([0.229, 0.224, 0.225])


def photographs() -> dict[str, np.ndarray]:
    """Return forward's argument x: float32 [4, 3, 224, 224]."""
    crops = []
    for image in load_sample_images().images:
        side = min(image.shape[:2])
        crops += [image[:side, :side], image[-side:, -side:]]
    pixels = np.stack([resize(crop / 255.0) for crop in crops])
    return {"x": ((pixels - MEAN) / STD).transpose(0, 3, 1, 2).astype(np.float32)}


def resize(image: np.ndarray) -> np.ndarray:
    """Bring a square image [side, side, 3] to 224 x 224, bilinearly between pixel centres."""
    side = image.shape[0]
    place = np.clip((np.arange(SIZE) + 0.5) * side / SIZE - 0.5, 0, side - 1)
    low = np.floor(place).astype(int)
    high = np.minimum(low + 1, side - 1)
    part = (place - low)[:, np.newaxis]
    rows = image[low] * (1 - part[..., np.newaxis]) + image[high] * part[..., np.newaxis]
    return rows[:, low] * (1 - part) + rows[:, high] * part
