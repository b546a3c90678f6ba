"""Facial action coding: the table of units, the rig between units and landmarks, rendered faces."""
