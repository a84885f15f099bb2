"""How the API bears many users at a time; see `__main__`."""
