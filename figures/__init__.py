"""Figures and the report, drawn from run files only: nothing here loads a model."""
