"""What training is, whatever the method: the trainer and runs with files around it, their watch, ranks and history."""
