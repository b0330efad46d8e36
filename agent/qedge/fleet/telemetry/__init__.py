"""What a node says of itself: collected, kept on the disk, and sent in order once the broker is there."""
