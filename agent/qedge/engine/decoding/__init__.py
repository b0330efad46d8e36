"""Decode streams: syndromes of a control system in, corrections out, round by round; the decoding runs in workers."""
