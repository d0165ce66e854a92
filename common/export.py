"""`python -m common.export RUN --step N --out FILE`: a checkpoint as safetensors, with PyTorch's
parameter names."""

from common.base.errors import run_command
from common.runs.export import main

if __name__ == "__main__":
    run_command(main)
