"""Which flags to give an engine: settings of vLLM, tried on the same arrivals, and one of them recommended."""
