"""What else could be shared between trades? Networks over item text, trained together without noise: upper bounds."""
