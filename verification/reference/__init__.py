"""The literal simulator: slow, in the plainest words, with no code of the engine, so that agreement means something."""
