"""A node measures its QPUs: how wide, how good, how fast; and whether they are still what they were."""
