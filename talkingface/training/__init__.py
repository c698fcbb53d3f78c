"""The shared loop, the only place with zero_grad, backward, clip and step; what it logs and how it resumes."""
