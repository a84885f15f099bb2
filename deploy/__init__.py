"""What makes and checks the files in this folder; see README.md."""
