"""A replica from data sheets: the shape of a model, the GPUs it is placed on, and what an iteration on them takes."""
