"""The shared training loop: the only place with zero_grad, backward, clip and step; what it logs, how it resumes."""
