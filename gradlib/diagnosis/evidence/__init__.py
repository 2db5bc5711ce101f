"""What rules look at: each file measures one thing about a training, once."""
