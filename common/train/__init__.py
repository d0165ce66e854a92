"""The one training loop, the compiled steps that it calls, and what a stage does with its run
directory."""
