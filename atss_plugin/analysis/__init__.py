"""What an assigner does: its positives on an image, its statistics over a data set, and pictures of both."""
