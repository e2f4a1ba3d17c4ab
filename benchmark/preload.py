"""Imported once by the server process from which runs are forked, so that no run pays for these imports.

torch's optimizers import its compiler (about two seconds) when the first one is made.
"""

import methods

for name in methods.METHODS:
    methods.METHODS.get(name)
