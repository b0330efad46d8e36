"""Looking at a box: what is wrong with it and how to mend it, and a bundle for those who help from afar."""
