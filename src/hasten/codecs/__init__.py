"""Compression of numerical data, one folder per method: `hasten.codecs.sprintz`. Nothing here loads torch."""
