"""Models as others keep them: PyTorch's names, and Hugging Face's folders."""
