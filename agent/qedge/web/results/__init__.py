"""What results of other nodes have been worth, over HTTP."""
