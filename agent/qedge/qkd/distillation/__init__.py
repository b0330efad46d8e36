"""Distillation: one engine per end turns detections into blocks of secret key; a worker hosts it."""
