"""Request traces as workloads: the formats they come in, their statistics, and many length pairs in few types."""
