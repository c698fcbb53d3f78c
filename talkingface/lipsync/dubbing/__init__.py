"""What DINet and LawDNet share beside their networks: crops, sound by frame, training data."""
