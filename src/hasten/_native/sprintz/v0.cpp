// Published Sprintz streams.
