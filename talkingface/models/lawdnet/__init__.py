"""LawDNet: dubs a mouth by warping reference faces locally, around key points that the sound moves."""
