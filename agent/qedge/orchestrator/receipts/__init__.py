"""Receipts of results: runners sign what they gave, owners keep it, and anybody can check it."""
