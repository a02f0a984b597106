"""What makes and checks the course; its users need none of it."""
