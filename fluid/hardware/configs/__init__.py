"""The config.json of Hugging Face: its keys, the families of models, their layers and their quantisation."""
