"""QKD links of this box: raw detections in, error rates out; distillation and key delivery build on the same blocks."""
