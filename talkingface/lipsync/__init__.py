"""Do lips and sound belong together? The one place for it: preprocessing, evaluation and models all ask here."""
