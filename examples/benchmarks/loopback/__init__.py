"""What is measured on plain loopback, where nothing hides the cost of the program that moves the bytes."""
