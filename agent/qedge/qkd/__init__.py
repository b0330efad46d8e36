"""QKD links: for now their raw state, sifted detections and error rate; distillation builds on the same ports."""
