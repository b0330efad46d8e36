"""Commands of fleet operators: checked, kept, carried out once, and told of."""
