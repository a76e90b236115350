"""Steps of rules that look ahead: the KV that residents are predicted to hold, and a queue that is not by arrival."""
