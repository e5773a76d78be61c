"""Floor 0: small shared tools. Nothing here knows about rooms, methods or the bench."""
