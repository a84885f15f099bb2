"""Lists of URLs: taken in as they are uploaded, read row by row, kept in one form.

A process of its own reads each upload (`reading.py`): whatever a damaged file does to a decoder,
the api goes on, its event loop is not held up, and the memory is given back.
"""
