"""Packs what was kept and writes the index of the dataset."""
