"""An experiment that is as small as one can be: which of two clouds does a point belong to?"""
