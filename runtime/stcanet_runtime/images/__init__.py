"""What is looked at: frames of cameras, boxes of people in them, crops in folders."""
