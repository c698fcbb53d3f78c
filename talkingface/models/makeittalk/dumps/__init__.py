"""Clips without videos: the dumps and text trees of MakeItTalk's published code, read and written."""
