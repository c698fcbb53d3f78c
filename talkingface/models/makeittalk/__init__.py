"""MakeItTalk (SIGGRAPH Asia 2020): a voice moves the landmarks of a portrait, and these move the picture."""
