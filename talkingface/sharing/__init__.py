"""What leaves the toolkit for other people: a trained model as a folder that the Hugging Face hub can show."""
