"""The page for the browser, by Gradio: make a face speak, look at runs. It loads nothing from the internet."""

import os

# Before any module here imports Gradio: it tells its makers of its use otherwise, and asks for its latest version.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
