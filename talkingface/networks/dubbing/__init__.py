"""What the networks of DINet and LawDNet share: few-shot dubbing of a face crop whose mouth is hidden."""
