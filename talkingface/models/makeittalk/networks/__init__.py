"""Networks of MakeItTalk, one architecture per file."""
