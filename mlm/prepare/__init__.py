"""`python -m mlm.prepare`: turns text into a prepared corpus (`mlm.corpus`), in stages.

1. The main process reads documents one after another and cuts them into blocks (`sources`).
2. Worker processes clean the blocks (`cleaning`): parts of text.
3. Duplicates are found by the hashes of the texts; the hash also decides who is for validation.
4. A tokeniser is trained on the training documents, or given (`tokeniser`).
5. Worker processes turn parts of text into parts of token ids (`encoding`).
6. Parts are joined to shards, and the manifest is written.

Every part is a file, written whole or not at all, so that a command that was killed goes on where
it was. What a worker does is a function of its arguments: the corpus has the same hash, whatever
the number of workers and however often it was stopped. Workers import neither JAX nor
`common`, which imports it: that would cost 170 MB each.
"""
