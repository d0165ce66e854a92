"""The relay by size: classifiers of sentences, each taught by a larger one, which may itself have
been taught (Mirzadeh et al. 2019; as practised for SST-2 with BERTs)."""
